//! DMLab: TensorFlow's record files `dmlab-<part>.tfrecord*`, as distributed with VTAB.

use std::sync::Arc;

use crate::error::DataError;
use crate::sources::formats::tfrecord::TfRecords;
use crate::sources::original::Folder;
use crate::sources::parts::Pools;
use crate::sources::sample::{Records, Sample};

/// Three parts, each in one or more files, which are read in alphabetical order.
pub(super) fn dmlab(folder: &Folder) -> Result<Pools, DataError> {
    Ok([part(folder, "train")?, part(folder, "validation")?, part(folder, "test")?])
}

fn part(folder: &Folder, part: &str) -> Result<Vec<Sample>, DataError> {
    let start = format!("dmlab-{part}.tfrecord");
    let unreadable = |error: std::io::Error| folder.bad_file(&folder.base, error.to_string());
    let entries = std::fs::read_dir(&folder.base).map_err(unreadable)?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)));
    files.sort();
    let mut samples = Vec::new();
    for path in files {
        let bad = |reason| folder.bad_file(&path, reason);
        let (records, labels) = TfRecords::open(path.clone()).map_err(bad)?;
        let labels = labels.iter().zip(1..).map(|(label, row)| folder.label(*label, 0, &path, row));
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        let records: Arc<dyn Records> = Arc::new(records);
        samples.extend(Sample::records(&records, labels));
    }
    Ok(samples)
}
