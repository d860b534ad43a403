//! Datasets with MATLAB files: the pixels of SVHN, and the lists of Oxford Flowers, Stanford Dogs and Stanford Cars.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::sources::formats::mat5::{self, Mat};
use crate::sources::formats::raw::{InMemoryRecords, Order, Shape};
use crate::sources::original::Folder;
use crate::sources::parts::Pools;
use crate::sources::sample::{Records, Sample};

/// Maximum number of labels in a file; the largest dataset has 600 thousand.
const MAX_LABELS: usize = 1 << 24;

/// The variables of one MAT-file.
struct Variables<'a> {
    folder: &'a Folder<'a>,
    path: PathBuf,
    variables: Vec<(String, Mat)>,
}

impl<'a> Variables<'a> {
    fn read(folder: &'a Folder, name: &str) -> Result<Self, DataError> {
        let path = folder.find(name)?;
        let variables =
            mat5::parse(&folder.bytes(&path)?).map_err(|reason| folder.bad_file(&path, reason))?;
        Ok(Self { folder, path, variables })
    }

    fn bad(&self, reason: String) -> DataError {
        self.folder.bad_file(&self.path, reason)
    }

    fn get(&self, name: &str) -> Result<&Mat, DataError> {
        let found = self.variables.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value).ok_or_else(|| self.bad(format!("it has no variable `{name}`")))
    }

    fn integers(&self, name: &str) -> Result<Vec<i64>, DataError> {
        let numbers = self.get(name)?.numbers();
        let numbers = numbers.ok_or_else(|| self.bad(format!("`{name}` is not an array of numbers")))?;
        if numbers.len() > MAX_LABELS {
            return Err(self
                .bad(format!("`{name}` has {} values; at most {MAX_LABELS} are supported", numbers.len())));
        }
        numbers.iter().zip(1..).map(|(number, row)| self.whole(name, number, row)).collect()
    }

    /// Converts a number in a row of a variable to an integer; rows count from 1.
    fn whole(&self, name: &str, number: f64, row: usize) -> Result<i64, DataError> {
        mat5::whole(number)
            .map_err(|reason| self.folder.bad_line(&self.path, row, format!("`{name}`: {reason}")))
    }

    /// Samples of images and labels; messages count them from 1.
    fn samples(&self, images: Vec<PathBuf>, labels: &[i64], first: i64) -> Result<Vec<Sample>, DataError> {
        if images.len() != labels.len() {
            return Err(self.bad(format!("{} images have {} labels", images.len(), labels.len())));
        }
        let list: Arc<Path> = self.path.as_path().into();
        let sample = |((image, label), row): ((PathBuf, &i64), usize)| {
            Ok(self.folder.listed(image, self.folder.label(*label, first, &self.path, row)?, &list, row))
        };
        images.into_iter().zip(labels).zip(1..).map(sample).collect()
    }
}

/// `{train,test}_32x32.mat`: `X` of 32 x 32 x 3 x images, `y` with 10 for the digit 0.
pub(super) fn svhn(folder: &Folder) -> Result<Pools, DataError> {
    let part = |name: &str| {
        let mut file = Variables::read(folder, name)?;
        let labels = file.integers("y")?;
        let index = file.variables.iter().position(|(name, _)| name == "X");
        let pixels = index.map(|index| file.variables.swap_remove(index).1);
        let none = || file.bad("it has no byte array `X`".into());
        let Some(Mat::Numbers(pixels)) = pixels else { return Err(none()) };
        let dims = pixels.dims.clone();
        let &[height, width, 3, count] = dims.as_slice() else {
            return Err(file.bad(format!("`X` has the dimensions {dims:?}, not [height, width, 3, images]")));
        };
        let bytes = pixels.into_bytes().ok_or_else(none)?;
        if labels.len() != count {
            return Err(file.bad(format!("{count} images have {} labels", labels.len())));
        }
        let label = |(digit, row): (&i64, usize)| {
            // The digit 0 is class 10 in the file and 0 in the benchmark; a value that is not a digit is reported
            // unchanged.
            folder.label(if *digit == 10 { 0 } else { *digit }, 0, &file.path, row)
        };
        let labels = labels.iter().zip(1..).map(label);
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        let shape = Shape { height, width, channels: 3, order: Order::ColumnMajor, scale: 1 }.checked();
        let shape = shape.map_err(|reason| file.bad(reason))?;
        let records: Arc<dyn Records> = Arc::new(InMemoryRecords { path: file.path.clone(), bytes, shape });
        Ok(Sample::records(&records, labels))
    };
    Ok([part("train_32x32.mat")?, Vec::new(), part("test_32x32.mat")?])
}

/// `imagelabels.mat` has the class of every image, from 1; `setid.mat` the image numbers of each part.
pub(super) fn flowers(folder: &Folder) -> Result<Pools, DataError> {
    let labels = Variables::read(folder, "imagelabels.mat")?.integers("labels")?;
    let parts = Variables::read(folder, "setid.mat")?;
    let images = folder.find("jpg")?;
    let part = |name: &str| {
        let numbers = parts.integers(name)?;
        let label = |number: &i64| {
            let index = usize::try_from(*number).ok().and_then(|number| number.checked_sub(1));
            let label = index.and_then(|index| labels.get(index)).copied();
            label.ok_or_else(|| parts.bad(format!("`{name}` lists image {number}, which has no label")))
        };
        let classes = numbers.iter().map(label).collect::<Result<Vec<_>, _>>()?;
        let files = numbers.iter().map(|number| images.join(format!("image_{number:05}.jpg"))).collect();
        parts.samples(files, &classes, 1)
    };
    Ok([part("trnid")?, part("valid")?, part("tstid")?])
}

/// `{train,test}_list.mat`: `file_list`, a cell of paths below `Images/`, and `labels`, from 1.
pub(super) fn stanford_dogs(folder: &Folder) -> Result<Pools, DataError> {
    let images = folder.find("Images")?;
    let part = |name: &str| {
        let file = Variables::read(folder, name)?;
        let Mat::Cell(cells) = file.get("file_list")? else {
            return Err(file.bad("`file_list` is not a cell array".into()));
        };
        let paths = texts(&file, cells, "file_list", &images)?;
        file.samples(paths, &file.integers("labels")?, 1)
    };
    Ok([part("train_list.mat")?, Vec::new(), part("test_list.mat")?])
}

/// `annotations`, a structure with `fname` and `class` (from 1) for each image in `cars_train/` or `cars_test/`.
pub(super) fn stanford_cars(folder: &Folder) -> Result<Pools, DataError> {
    let part = |name: &str, images: &str| {
        let file = Variables::read(folder, name)?;
        let images = folder.find(images)?;
        let annotations = file.get("annotations")?;
        let field = |name: &str| {
            annotations.field(name).ok_or_else(|| file.bad(format!("`annotations` has no field `{name}`")))
        };
        let paths = texts(&file, field("fname")?, "fname", &images)?;
        let class = |(class, row): (&Mat, usize)| {
            let number = class.numbers().and_then(|numbers| numbers.iter().next());
            let none = || folder.bad_line(&file.path, row, "its `class` is not a number".into());
            file.whole("class", number.ok_or_else(none)?, row)
        };
        let classes = field("class")?.iter().zip(1..).map(class).collect::<Result<Vec<_>, _>>()?;
        file.samples(paths, &classes, 1)
    };
    Ok([
        part("cars_train_annos.mat", "cars_train")?,
        Vec::new(),
        part("cars_test_annos_withlabels.mat", "cars_test")?,
    ])
}

/// The strings of an array of arrays, as paths in a folder.
fn texts(file: &Variables, cells: &[Mat], name: &str, images: &Path) -> Result<Vec<PathBuf>, DataError> {
    let path = |(cell, row): (&Mat, usize)| {
        let text = cell.text().ok_or_else(|| file.bad(format!("row {row} of `{name}` is not text")))?;
        file.folder.inside(images, text, &file.path, row)
    };
    cells.iter().zip(1..).map(path).collect()
}
