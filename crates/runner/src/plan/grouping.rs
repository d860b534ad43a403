//! How many runs are trained together.

use std::collections::BTreeMap;

use anyhow::Result;
use san_core::methods::UNTRAINED;

use crate::cost::calibration::Kind;
use crate::plan::Plan;
use crate::plan::device_memory::DeviceMemory;
use crate::tasks::Run;

/// The most runs of a group, unless the user asks for more.
const MOST_TOGETHER: usize = 8;

impl Plan {
    /// The number of runs that are trained together unless the user says otherwise or fewer fit: as many as are faster
    /// together (docs/speed.md). It follows from the plan and the kind of device alone.
    ///
    /// # Errors
    /// When the run's method is unknown.
    pub fn usual_group_size(&self, run: &Run, on_gpu: bool) -> Result<usize> {
        if run.method == UNTRAINED || run.method()?.features_are_frozen() {
            return Ok(MOST_TOGETHER);
        }
        // One run keeps a processor's core busy, and the activations of several exceed its cache.
        if !on_gpu {
            return Ok(1);
        }
        Ok(match self.sizes.get(&run.backbone) {
            Some(..50_000_000) => MOST_TOGETHER,
            Some(..400_000_000) => MOST_TOGETHER / 2,
            _ => 1,
        })
    }

    /// Number of parameters of its largest backbone.
    pub fn most_parameters(&self) -> u64 {
        let most = self.sizes.values().max();
        most.and_then(|&size| u64::try_from(size).ok()).unwrap_or(0)
    }

    /// A group of each kind, of which every step costs the same: a method on a model, with a number of runs.
    ///
    /// # Errors
    /// As for [`Plan::groups`].
    pub fn kinds(&self, size: Option<usize>, device: &DeviceMemory) -> Result<Vec<Vec<Run>>> {
        let finals: Vec<Run> = self.finals.iter().map(|row| row.run.clone()).collect();
        let mut kinds = BTreeMap::new();
        for runs in [&self.tune, &finals] {
            for group in self.groups(runs, size, device)?.groups {
                let kind = Kind::of(&group.runs()[0], group.runs().len())?;
                kinds.entry(kind).or_insert_with(|| group.runs().to_vec());
            }
        }
        // Those of one model are measured one after the other, since it stays in memory.
        Ok(kinds.into_values().collect())
    }
}
