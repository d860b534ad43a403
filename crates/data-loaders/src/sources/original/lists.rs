//! Datasets split by text lists: DTD, SUN397, Oxford-IIIT Pet, CUB-200-2011 and NABirds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::DataError;
use crate::sources::original::Folder;
use crate::sources::parts::Pools;
use crate::sources::sample::Sample;

/// `labels/<part>1.txt` lists `class/image.jpg` in `images/`; labels follow the alphabetical order of the classes.
pub(super) fn dtd(folder: &Folder) -> Result<Pools, DataError> {
    let images = folder.base.join("images");
    let classes = crate::sources::layout::class_folders::class_names(&images);
    let part = |part: &str| {
        let path = folder.find(&format!("labels/{part}1.txt"))?;
        by_folder(folder, &path, &images, |image| {
            let class = image.split('/').next()?;
            classes.iter().position(|name| name == class)
        })
    };
    Ok([part("train")?, part("val")?, part("test")?])
}

/// The lists of TensorFlow Datasets name `/a/abbey/image.jpg` in `SUN397/`; labels are line numbers in
/// `ClassName.txt`.
pub(super) fn sun397(folder: &Folder) -> Result<Pools, DataError> {
    let names = folder.find("ClassName.txt")?;
    let rows = folder.rows(&names)?;
    let classes: HashMap<&str, usize> =
        rows.iter().zip(0..).map(|((_, row), label)| (row[0].as_str(), label)).collect();
    let images = folder.find("a")?;
    let images = images.parent().unwrap_or(&images);
    let part = |name: &str| {
        let path = folder.find(name)?;
        by_folder(folder, &path, images, |image| classes.get(image.rsplit_once('/')?.0).copied())
    };
    Ok([part("sun397_tfds_tr.txt")?, part("sun397_tfds_va.txt")?, part("sun397_tfds_te.txt")?])
}

/// Reads a list of images whose folder is their class.
fn by_folder(
    folder: &Folder,
    path: &Path,
    images: &Path,
    class: impl Fn(&str) -> Option<usize>,
) -> Result<Vec<Sample>, DataError> {
    let list: Arc<Path> = path.into();
    let sample = |(line, row): (usize, Vec<String>)| {
        let unknown = || folder.bad_line(path, line, format!("`{}` is not in a class folder", row[0]));
        let label = folder.label(class(&row[0]).ok_or_else(unknown)? as i64, 0, path, line)?;
        let image = folder.inside(images, row[0].trim_start_matches('/'), path, line)?;
        Ok(folder.listed(image, label, &list, line))
    };
    folder.rows(path)?.into_iter().map(sample).collect()
}

/// `annotations/{trainval,test}.txt`: `image class species breed`, classes from 1, images in `images/<image>.jpg`.
pub(super) fn pets(folder: &Folder) -> Result<Pools, DataError> {
    let images = folder.find("images")?;
    let part = |name: &str| {
        let path = folder.find(name)?;
        let list: Arc<Path> = path.as_path().into();
        let sample = |(line, row): (usize, Vec<String>)| {
            let number = row.get(1).and_then(|class| class.parse().ok());
            let number =
                number.ok_or_else(|| folder.bad_line(&path, line, "expected `image class ...`".into()))?;
            let image = folder.inside(&images, &format!("{}.jpg", row[0]), &path, line)?;
            Ok(folder.listed(image, folder.label(number, 1, &path, line)?, &list, line))
        };
        folder.rows(&path)?.into_iter().map(sample).collect::<Result<Vec<_>, DataError>>()
    };
    Ok([part("annotations/trainval.txt")?, Vec::new(), part("annotations/test.txt")?])
}

/// Three lists `id value` with the same ids: image, class, and 1 for training. A label is the rank of its class id
/// among the ids that occur, because NABirds' ids have gaps.
pub(super) fn birds(folder: &Folder) -> Result<Pools, DataError> {
    let images = folder.base.join("images");
    let path = folder.find("images.txt")?;
    let list: Arc<Path> = path.as_path().into();
    let classes = numbers_by_id(folder, "image_class_labels.txt")?;
    let training = numbers_by_id(folder, "train_test_split.txt")?;
    let mut ids: Vec<i64> = classes.values().copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let expected = folder.entry.classes as usize;
    if ids.len() != expected {
        let labels = folder.base.join("image_class_labels.txt");
        return Err(folder
            .bad_file(&labels, format!("it lists {} classes, but the data set has {expected}", ids.len())));
    }
    let mut pools = Pools::default();
    for (line, row) in folder.rows(&path)? {
        let of = |numbers: &HashMap<String, i64>| numbers.get(&row[0]).copied();
        let (Some(image), Some(class), Some(training)) = (row.get(1), of(&classes), of(&training)) else {
            return Err(folder.bad_line(
                &path,
                line,
                "expected `id image` with an id that is in all three lists".into(),
            ));
        };
        let part = match training {
            0 => 2,
            1 => 0,
            other => {
                let reason =
                    format!("train_test_split.txt has the value {other} for it, which is neither 0 nor 1");
                return Err(folder.bad_line(&path, line, reason));
            }
        };
        let label = ids.partition_point(|id| *id < class) as u32;
        let image = folder.inside(&images, image, &path, line)?;
        pools[part].push(folder.listed(image, label, &list, line));
    }
    Ok(pools)
}

fn numbers_by_id(folder: &Folder, name: &str) -> Result<HashMap<String, i64>, DataError> {
    let path = folder.find(name)?;
    let pair = |(line, row): (usize, Vec<String>)| {
        let number = row.get(1).and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| folder.bad_line(&path, line, "expected `id number`".into()))?;
        Ok((row[0].clone(), number))
    };
    folder.rows(&path)?.into_iter().map(pair).collect()
}
