//! The predictions of a run on each item of its split: `predictions.parquet`, or `predictions.csv` of older runs.
//!
//! Three integers per row: index of the item, its label, the prediction. Read without arrow and without polars' Parquet
//! reader, which would double the build time.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::Int32Type;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::error::ReportError;

/// Name of the predictions' file in a run's folder (parquet, INT32 `index`, `label`, `predicted`).
pub const PREDICTIONS_FILE: &str = "predictions.parquet";

/// The same columns as CSV.
const OLDER_FILE: &str = "predictions.csv";

const COLUMNS: [&str; 3] = ["index", "label", "predicted"];

/// The predictions of one run in the order of its split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// The label of each item.
    pub labels: Vec<i32>,
    /// The predictions of the run.
    pub predicted: Vec<i32>,
}

impl Answers {
    /// Whether each prediction is correct.
    pub fn right(&self) -> impl Iterator<Item = bool> {
        self.labels.iter().zip(&self.predicted).map(|(label, predicted)| label == predicted)
    }
}

/// Reads the predictions in a run's folder, for one of several data sets if `set` is given; `None` if there are none.
///
/// # Errors
/// When a file exists and is damaged, has other columns, or does not number its items from 0.
pub fn read(folder: &Path, set: Option<&str>) -> Result<Option<Answers>, ReportError> {
    let [current, older] = [PREDICTIONS_FILE, OLDER_FILE]
        .map(|file| folder.join(set.map_or_else(|| file.to_owned(), |set| format!("{set}.{file}"))));
    let (path, columns): (PathBuf, Result<[Vec<i32>; 3], String>) = if current.is_file() {
        let columns = from_parquet(&current);
        (current, columns)
    } else if older.is_file() {
        let columns = from_csv(&older);
        (older, columns)
    } else {
        return Ok(None);
    };
    let fault = |reason| ReportError::Predictions { path: path.clone(), reason };
    let [index, labels, predicted] = columns.map_err(fault)?;
    if let Some(place) = (0i32..).zip(&index).find_map(|(place, &index)| (place != index).then_some(place)) {
        return Err(fault(format!("row {place} has the index {}", index[place as usize])));
    }
    if labels.len() != index.len() || predicted.len() != index.len() {
        return Err(fault("its columns have different lengths".into()));
    }
    Ok(Some(Answers { labels, predicted }))
}

fn from_parquet(path: &Path) -> Result<[Vec<i32>; 3], String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let mut columns = COLUMNS.map(|_| Vec::new());
    for (name, values) in COLUMNS.iter().zip(&mut columns) {
        let place = (0..schema.num_columns()).find(|&place| schema.column(place).name() == *name);
        let place = place.ok_or_else(|| format!("it has no column `{name}`"))?;
        let column = schema.column(place);
        if column.physical_type() != parquet::basic::Type::INT32 || column.max_rep_level() != 0 {
            return Err(format!("its column `{name}` is not INT32"));
        }
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).map_err(|error| error.to_string())?;
            let rows = usize::try_from(group.metadata().num_rows()).map_err(|error| error.to_string())?;
            let pages = group.get_column_reader(place).map_err(|error| error.to_string())?;
            let mut pages = get_typed_column_reader::<Int32Type>(pages);
            // A nullable column marks missing values by definition levels, for which the reader needs a buffer.
            let mut levels = (column.max_def_level() > 0).then(Vec::new);
            let (records, found, _) =
                pages.read_records(rows, levels.as_mut(), None, values).map_err(|error| error.to_string())?;
            if records != rows || found != rows {
                return Err(format!("its column `{name}` has missing values"));
            }
        }
    }
    Ok(columns)
}

fn from_csv(path: &Path) -> Result<[Vec<i32>; 3], String> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| error.to_string())?;
    let header = reader.headers().map_err(|error| error.to_string())?;
    if header.iter().ne(COLUMNS) {
        return Err(format!("its columns are not {}", COLUMNS.join(",")));
    }
    let mut columns = COLUMNS.map(|_| Vec::new());
    for row in reader.deserialize() {
        let row: [i32; 3] = row.map_err(|error| error.to_string())?;
        columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    Ok(columns)
}
