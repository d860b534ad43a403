//! Reader for image tables as published on the Hugging Face Hub: a column of encoded images (`<name>.bytes`) and a
//! column of labels.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::io::contained::contained;
use crate::io::files;
use crate::sources::sample::{Content, Records};

/// Names of label columns, fine before coarse.
const LABELS: [&str; 3] = ["fine_label", "label", "labels"];
/// Names of image columns.
const IMAGES: [&str; 3] = ["image.bytes", "img.bytes", "image"];

/// One table; the requested images are kept in memory, still encoded.
pub(crate) struct ParquetRecords {
    path: PathBuf,
    cached: Mutex<HashMap<u64, ByteArray>>,
}

impl ParquetRecords {
    /// The table at a path; nothing is read yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, cached: Mutex::default() }
    }

    /// The labels of all rows.
    pub(crate) fn labels(&self) -> Result<Vec<i64>, String> {
        let mut labels = Vec::new();
        let each = |_, label: i64| labels.push(label);
        column::<Int64Type>(&self.path, &LABELS, each)?;
        Ok(labels)
    }
}

impl Records for ParquetRecords {
    fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&self, requested: &[u64]) -> Result<(), String> {
        let requested: std::collections::HashSet<u64> = requested.iter().copied().collect();
        let mut cached = HashMap::new();
        column::<ByteArrayType>(&self.path, &IMAGES, |row, image: ByteArray| {
            if requested.contains(&row) {
                cached.insert(row, image);
            }
        })?;
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = cached;
        Ok(())
    }

    fn read(&self, index: u64) -> Result<Content, String> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let image = cached.get(&index).ok_or("the row was not prefetched")?;
        Ok(Content::Encoded(image.data().to_vec()))
    }
}

/// Calls `each` with the row and value of every entry in the first of these columns that exists; a missing value is an
/// error.
///
/// The library trusts some of its input and panics if pages contradict each other; that is reported as a damaged file
/// too.
fn column<T: DataType>(path: &Path, names: &[&str], each: impl FnMut(u64, T::T)) -> Result<(), String> {
    contained(|| read_column::<T>(path, names, each))
}

fn read_column<T: DataType>(
    path: &Path,
    names: &[&str],
    mut each: impl FnMut(u64, T::T),
) -> Result<(), String> {
    let reason = |error: ParquetError| error.to_string();
    let file = files::open(path, u64::MAX).map_err(|error| error.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(reason)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let place =
        |name: &&str| (0..schema.num_columns()).find(|index| schema.column(*index).path().string() == **name);
    let place =
        names.iter().find_map(place).ok_or_else(|| format!("it has no column {}", names.join(" or ")))?;
    let descriptor = schema.column(place);
    if descriptor.physical_type() != T::get_physical_type() || descriptor.max_rep_level() != 0 {
        return Err(format!("its column {} has an unexpected type", descriptor.path().string()));
    }
    let present = descriptor.max_def_level();
    let mut row = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(reason)?;
        let mut reader = get_typed_column_reader::<T>(group.get_column_reader(place).map_err(reason)?);
        loop {
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            let (rows, ..) =
                reader.read_records(BATCH, Some(&mut levels), None, &mut values).map_err(reason)?;
            if rows == 0 {
                break;
            }
            if values.len() != rows || levels.iter().any(|level| *level != present) {
                return Err(format!("a value is missing in row {row} or shortly after it"));
            }
            for value in values {
                each(row, value);
                row += 1;
            }
            if row > MAX_ROWS {
                return Err(format!("it has more than {MAX_ROWS} rows"));
            }
        }
    }
    Ok(())
}

/// Maximum number of rows of a table: a few bytes can repeat a label billions of times.
const MAX_ROWS: u64 = 1 << 24;
/// Rows per read.
const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::sync::Arc;

    use parquet::data_type::Int64Type;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::{MAX_ROWS, ParquetRecords};

    /// Writes a table with one label, this many times.
    fn write(file: File, rows: u64) {
        let schema = Arc::new(parse_message_type("message m { required int64 label; }").unwrap());
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default())).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let batch = vec![7_i64; 1 << 18];
        let mut left = usize::try_from(rows).unwrap();
        while left > 0 {
            let now = &batch[..left.min(batch.len())];
            column.typed::<Int64Type>().write_batch(now, None, None).unwrap();
            left -= now.len();
        }
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn a_small_file_that_repeats_one_label_too_often_is_rejected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (rows, read) in [(1000, true), (MAX_ROWS + 1000, false)] {
            write(file.reopen().unwrap(), rows);
            let labels = ParquetRecords::new(file.path().to_owned()).labels();
            assert_eq!(labels.is_ok(), read, "{:?}", labels.err());
        }
        assert!(file.as_file().metadata().unwrap().len() < 1 << 20);
    }
}
