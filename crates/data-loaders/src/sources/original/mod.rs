//! Readers of original distributions, unpacked: one reader per format, recognised by a file that no other format has.
//!
//! A reader returns the authors' own parts with the benchmark's labels (such as VTAB's distance bins) and leaves
//! sampling of parts to `parts`. Archives often unpack into a folder of their own, so a marker is also looked for one
//! level further down.

mod arrays;
mod drives;
mod lists;
mod matrices;
mod records;
mod scenes;
mod sheets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::io::files::{self, MAX_LIST_BYTES, stays_inside};
use crate::registry::{DatasetEntry, OriginalFormat, PoolCounts};
use crate::sources::layout::class_folders;
use crate::sources::manifest::PARTS;
use crate::sources::parts::Pools;
use crate::sources::sample::{Listed, Place, Sample};

/// The file or folder that identifies a format.
pub(crate) fn marker(format: &OriginalFormat) -> &str {
    match format {
        OriginalFormat::Cifar => "train.bin or meta",
        OriginalFormat::ClassFolders { folder } => folder,
        OriginalFormat::Dtd => "labels/train1.txt",
        OriginalFormat::Sun397 => "sun397_tfds_tr.txt",
        OriginalFormat::Svhn => "train_32x32.mat",
        OriginalFormat::Flowers => "imagelabels.mat",
        OriginalFormat::Pets => "annotations/trainval.txt",
        OriginalFormat::PatchCamelyon => "camelyonpatch_level_2_split_train_x.h5",
        OriginalFormat::Retinopathy => "trainLabels.csv",
        OriginalFormat::Clevr { .. } => "scenes/CLEVR_train_scenes.json",
        OriginalFormat::Dmlab => "dmlab-test.tfrecord*",
        OriginalFormat::Kitti => "training/label_2",
        OriginalFormat::Dsprites { .. } => "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        OriginalFormat::SmallNorb { .. } => "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat",
        OriginalFormat::Cub | OriginalFormat::Nabirds => "image_class_labels.txt",
        OriginalFormat::StanfordDogs => "train_list.mat",
        OriginalFormat::StanfordCars => "cars_train_annos.mat",
    }
}

/// Reads the original distribution, if the folder contains it.
pub(crate) fn read(entry: &DatasetEntry, folder: &Path) -> Result<Option<Pools>, DataError> {
    let Some(original) = &entry.original else { return Ok(None) };
    let Some(base) = marker(&original.format).split(" or ").find_map(|marker| base(folder, marker)) else {
        return Ok(None);
    };
    let place = &Folder { entry, root: folder, base };
    let pools = match &original.format {
        OriginalFormat::Cifar => arrays::cifar(place),
        OriginalFormat::ClassFolders { folder } => {
            Ok([class_folders::samples(entry, &place.base.join(folder))?, vec![], vec![]])
        }
        OriginalFormat::Dtd => lists::dtd(place),
        OriginalFormat::Sun397 => lists::sun397(place),
        OriginalFormat::Svhn => matrices::svhn(place),
        OriginalFormat::Flowers => matrices::flowers(place),
        OriginalFormat::Pets => lists::pets(place),
        OriginalFormat::PatchCamelyon => arrays::patch_camelyon(place),
        OriginalFormat::Retinopathy => sheets::retinopathy(place),
        OriginalFormat::Clevr { question } => scenes::clevr(place, *question),
        OriginalFormat::Dmlab => records::dmlab(place),
        OriginalFormat::Kitti => scenes::kitti(place),
        OriginalFormat::Dsprites { factor } => arrays::dsprites(place, *factor),
        OriginalFormat::SmallNorb { factor } => arrays::small_norb(place, *factor),
        OriginalFormat::Cub | OriginalFormat::Nabirds => lists::birds(place),
        OriginalFormat::StanfordDogs => matrices::stanford_dogs(place),
        OriginalFormat::StanfordCars => matrices::stanford_cars(place),
    }?;
    // If one of the authors' parts is missing, it is not replaced by splitting another part.
    let PoolCounts { train, val, test } = original.counts;
    for ((pool, count), part) in pools.iter().zip([train, val, test]).zip(PARTS) {
        if count > 0 && pool.is_empty() {
            return Err(DataError::EmptyPart { set: entry.name.clone(), part, path: folder.to_owned() });
        }
    }
    Ok(Some(pools))
}

/// The folder that contains a marker: the given one or one of its subfolders.
fn base(folder: &Path, marker: &str) -> Option<PathBuf> {
    let below = class_folders::class_names(folder).into_iter().map(|name| folder.join(name));
    std::iter::once(folder.to_owned()).chain(below).find(|base| has(base, marker))
}

/// Whether a folder contains a marker: a path, or the start of a file name, followed by `*`.
fn has(folder: &Path, marker: &str) -> bool {
    let Some(start) = marker.strip_suffix('*') else { return folder.join(marker).exists() };
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with(start))
}

/// A distribution being read, and its error messages.
struct Folder<'a> {
    entry: &'a DatasetEntry,
    /// The dataset's folder.
    root: &'a Path,
    /// `root` or the subfolder that contains the marker.
    base: PathBuf,
}

impl Folder<'_> {
    /// Path of a file from another archive: next to the marker, in the dataset's folder, or one level further down.
    fn find(&self, name: &str) -> Result<PathBuf, DataError> {
        let adjacent = self.base.join(name);
        if adjacent.exists() {
            return Ok(adjacent);
        }
        let found = base(self.root, name).map(|base| base.join(name));
        found.ok_or_else(|| self.bad_file(&adjacent, "it does not exist".into()))
    }

    fn bad_file(&self, path: &Path, reason: String) -> DataError {
        DataError::BadFile { set: self.entry.name.clone(), path: path.to_owned(), reason }
    }

    fn bad_line(&self, path: &Path, line: usize, reason: String) -> DataError {
        DataError::BadLine { set: self.entry.name.clone(), path: path.to_owned(), line, reason }
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        let failed = |source| DataError::Read { set: self.entry.name.clone(), path: path.to_owned(), source };
        files::read(path, MAX_LIST_BYTES).map_err(failed)
    }

    /// The lines of a text file, split into fields at white space; empty lines are skipped. Lines count from 1.
    fn rows(&self, path: &Path) -> Result<Vec<(usize, Vec<String>)>, DataError> {
        let bytes = self.bytes(path)?;
        let text = String::from_utf8(bytes).map_err(|_| self.bad_file(path, "it is not UTF-8".into()))?;
        let row =
            |(index, line): (usize, &str)| (index + 1, line.split_whitespace().map(str::to_owned).collect());
        let rows: Vec<(usize, Vec<String>)> = text.lines().enumerate().map(row).collect();
        Ok(rows.into_iter().filter(|(_, fields)| !fields.is_empty()).collect())
    }

    /// Converts a number that counts from `first` to a label.
    fn label(&self, number: i64, first: i64, path: &Path, line: usize) -> Result<u32, DataError> {
        match u32::try_from(number.saturating_sub(first)) {
            Ok(label) if label < self.entry.classes => Ok(label),
            _ => {
                let classes = self.entry.classes;
                Err(self.bad_line(path, line, format!("{number} is not a valid label for {classes} classes")))
            }
        }
    }

    /// A sample listed on a line of a list.
    fn listed(&self, image: PathBuf, label: u32, list: &Arc<Path>, line: usize) -> Sample {
        Sample { place: Place::File(image), label, listed: Some(Listed { list: Arc::clone(list), line }) }
    }

    /// Resolves a path from a list; rejected if it leaves the folder.
    fn inside(&self, base: &Path, image: &str, list: &Path, line: usize) -> Result<PathBuf, DataError> {
        if stays_inside(image.as_ref()) {
            return Ok(base.join(image));
        }
        let (set, path) = (self.entry.name.clone(), list.to_owned());
        Err(DataError::PathEscapes { set, path, line, found: image.to_owned() })
    }
}
