//! `<part>/<class>/*`: the layout of torchvision's `ImageFolder`. Labels follow the alphabetical order of the class
//! folders.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::registry::DatasetEntry;
use crate::sources::parts::Pools;
use crate::sources::sample::Sample;

/// Image file extensions.
const IMAGES: [&str; 9] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "gif", "ppm"];

/// Whether the folder has this layout: a train and a test folder with subfolders.
pub(super) fn is_here(folder: &Path) -> bool {
    ["train", "test"].iter().all(|part| !class_names(&folder.join(part)).is_empty())
}

/// Reads `train/`, `val/` if present, and `test/`.
pub(super) fn read(entry: &DatasetEntry, folder: &Path) -> Result<Pools, DataError> {
    let part = |name: &str| match folder.join(name) {
        path if path.is_dir() => samples(entry, &path),
        _ => Ok(Vec::new()),
    };
    Ok([part("train")?, part("val")?, part("test")?])
}

/// Names of the subfolders of a folder, in alphabetical order; empty if it cannot be read.
pub(crate) fn class_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

/// The images of all class folders in a folder; their number must equal the dataset's number of classes.
pub(crate) fn samples(entry: &DatasetEntry, folder: &Path) -> Result<Vec<Sample>, DataError> {
    let fault = |path: PathBuf, reason| DataError::BadFile { set: entry.name.clone(), path, reason };
    let classes = class_names(folder);
    if classes.len() != entry.classes as usize {
        let reason =
            format!("it has {} class folders, but the data set has {} classes", classes.len(), entry.classes);
        return Err(fault(folder.to_owned(), reason));
    }
    let mut samples = Vec::new();
    for (class, label) in classes.iter().zip(0..) {
        let path = folder.join(class);
        let files = files(&path).map_err(|source| DataError::Read {
            set: entry.name.clone(),
            path: path.clone(),
            source,
        })?;
        if files.is_empty() {
            return Err(fault(path, "the class has no images".into()));
        }
        for file in files {
            let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if !IMAGES.contains(&ending.to_lowercase().as_str()) {
                return Err(fault(
                    file,
                    "its extension is not that of an image; class folders may contain only images".into(),
                ));
            }
            samples.push(Sample::file(file, label));
        }
    }
    Ok(samples)
}

fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
