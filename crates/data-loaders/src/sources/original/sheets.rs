//! Diabetic Retinopathy Detection: grades in Kaggle's CSV files.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::error::DataError;
use crate::io::files::{self, MAX_LIST_BYTES};
use crate::sources::original::Folder;
use crate::sources::parts::Pools;

#[derive(Deserialize)]
struct Row {
    image: String,
    level: i64,
    #[serde(rename = "Usage")]
    usage: Option<String>,
}

/// `trainLabels.csv` grades `train/`; `retinopathy_solution.csv` grades `test/`, whose public subset VTAB uses for val
/// and whose private subset for test.
pub(super) fn retinopathy(folder: &Folder) -> Result<Pools, DataError> {
    let mut pools = Pools::default();
    for (name, images) in [("trainLabels.csv", "train"), ("retinopathy_solution.csv", "test")] {
        let path = folder.find(name)?;
        let images = folder.find(images)?;
        let list: Arc<Path> = path.as_path().into();
        let file = files::open(&path, MAX_LIST_BYTES);
        let mut reader =
            csv::Reader::from_reader(file.map_err(|error| folder.bad_file(&path, error.to_string()))?);
        for (row, line) in reader.deserialize().zip(2..) {
            let row: Row = row.map_err(|error| folder.bad_line(&path, line, error.to_string()))?;
            let part = match (name, row.usage.as_deref()) {
                ("trainLabels.csv", _) => 0,
                (_, Some("Public")) => 1,
                (_, Some("Private")) => 2,
                _ => {
                    return Err(folder.bad_line(
                        &path,
                        line,
                        "the usage is neither Public nor Private".into(),
                    ));
                }
            };
            let image = folder.inside(&images, &format!("{}.jpeg", row.image), &path, line)?;
            pools[part].push(folder.listed(image, folder.label(row.level, 0, &path, line)?, &list, line));
        }
    }
    Ok(pools)
}
