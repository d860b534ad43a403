//! What `--cache-features` will keep on disk, said before any of it is computed.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use indicatif::HumanBytes;

use crate::plan::Plan;
use crate::resources::Resources;

impl Plan {
    /// A line for each file of features that the plan's runs keep in `folder`, or find there.
    ///
    /// # Errors
    /// When a model is unknown, or the data are missing or wrong.
    pub fn cached_features(&self, folder: &Path, resources: &mut Resources) -> Result<String> {
        let (mut lines, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for run in self.finals.iter().map(|row| &row.run) {
            if !seen.insert((&run.backbone, &run.set, run.protocol.precision.name())) {
                continue;
            }
            let task = run.protocol.task().map_err(anyhow::Error::msg)?;
            let Some((pictures, bytes)) = task.cached_features(run, resources)? else { continue };
            lines.insert(format!(
                "features of {pictures} pictures for {}: {} in {}\n",
                run.backbone,
                HumanBytes(bytes),
                folder.display()
            ));
        }
        if lines.is_empty() {
            return Ok("no pictures have features to keep: --cache-features has no effect\n".into());
        }
        Ok(lines.into_iter().collect())
    }
}
