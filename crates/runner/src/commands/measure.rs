//! `san measure`: the process that `--calibrate` starts.

use std::io::stdout;

use anyhow::{Context as _, Result};
use runner::resources::Resources;
use runner::workers::device;
use runner::workers::measuring::{Assignment, measure_all};

pub(crate) fn measure() -> Result<()> {
    let assignment: Assignment =
        serde_json::from_reader(std::io::stdin()).context("reading what is to be measured")?;
    tch::set_num_threads(i32::try_from(assignment.threads)?);
    let mut resources = Resources::new(device::resolve(&assignment.device)?);
    let folder = std::env::temp_dir().join(format!("san-measure-{}", std::process::id()));
    let result = measure_all(&assignment.groups, &mut resources, &folder, &mut stdout());
    // What a measurement writes is of no use.
    let _ = std::fs::remove_dir_all(&folder);
    result
}
