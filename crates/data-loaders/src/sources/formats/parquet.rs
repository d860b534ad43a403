//! Reader for image tables as published on the Hugging Face Hub: a column of encoded images (`<name>.bytes`) and a
//! column of labels.
//!
//! The requested images are kept in memory while they are few. Otherwise they are read one row group at a time, and
//! only the last groups are kept, so that a table of any size can be read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Type;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::io::contained::contained;
use crate::io::files;
use crate::sources::sample::{Content, Records};

/// Bytes of requested images that are kept in memory.
const MAX_KEPT: usize = 256 << 20;
/// Bytes of row groups that are kept in memory; the last group is kept in any case.
const MAX_GROUPS: usize = 512 << 20;

/// Names of the columns of a table, in order of preference.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    images: Vec<String>,
    labels: Vec<String>,
}

impl Columns {
    /// The usual names; among labels, fine before coarse.
    pub(crate) fn usual() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            images: names(&["image.bytes", "img.bytes", "image"]),
            labels: names(&["fine_label", "label", "labels"]),
        }
    }

    /// One column of images and one of labels.
    pub(crate) fn named(image: &str, label: &str) -> Self {
        Self { images: vec![format!("{image}.bytes"), image.to_owned()], labels: vec![label.to_owned()] }
    }
}

/// One table.
pub(crate) struct ParquetRecords {
    path: PathBuf,
    columns: Columns,
    /// The first row of each row group, and the number of rows.
    starts: Vec<u64>,
    memory: Mutex<Memory>,
}

/// Images in memory, still encoded.
#[derive(Default)]
struct Memory {
    /// All requested images, if they are few.
    kept: Option<HashMap<u64, Vec<u8>>>,
    /// The last row groups, with their numbers.
    groups: VecDeque<(usize, Arc<Vec<ByteArray>>)>,
}

impl ParquetRecords {
    /// The table at a path; only its metadata are read.
    pub(crate) fn open(path: PathBuf, columns: Columns) -> Result<Self, String> {
        let starts = contained(|| {
            let reader = reader(&path)?;
            let mut starts = vec![0_u64];
            for group in reader.metadata().row_groups() {
                let rows = u64::try_from(group.num_rows()).map_err(|_| "a row group has a negative size")?;
                let start = starts.last().and_then(|start| start.checked_add(rows));
                starts.push(start.ok_or("it has too many rows")?);
            }
            Ok(starts)
        })?;
        Ok(Self { path, columns, starts, memory: Mutex::default() })
    }

    /// The labels of all rows.
    pub(crate) fn labels(&self) -> Result<Vec<i64>, String> {
        let all = 0..self.starts.len() - 1;
        let mut labels = Vec::new();
        contained(|| {
            let (reader, names) = (reader(&self.path)?, &self.columns.labels);
            let place = place(&reader, names)?;
            match reader.metadata().file_metadata().schema_descr().column(place).physical_type() {
                Type::INT32 => {
                    read_column::<Int32Type>(&reader, names, all, |_, label| labels.push(label.into()))
                }
                _ => read_column::<Int64Type>(&reader, names, all, |_, label| labels.push(label)),
            }
        })?;
        Ok(labels)
    }

    fn images(&self, groups: Range<usize>, each: impl FnMut(u64, ByteArray)) -> Result<(), String> {
        contained(|| read_column::<ByteArrayType>(&reader(&self.path)?, &self.columns.images, groups, each))
    }

    /// A row group, from memory if it is one of the last.
    fn group(&self, memory: &mut Memory, group: usize) -> Result<Arc<Vec<ByteArray>>, String> {
        if let Some((_, images)) = memory.groups.iter().find(|(number, _)| *number == group) {
            return Ok(Arc::clone(images));
        }
        let mut images = Vec::new();
        self.images(group..group + 1, |_, image| images.push(image))?;
        let images = Arc::new(images);
        memory.groups.push_back((group, Arc::clone(&images)));
        let size = |images: &Vec<ByteArray>| images.iter().map(ByteArray::len).sum::<usize>();
        let mut total: usize = memory.groups.iter().map(|(_, images)| size(images)).sum();
        while total > MAX_GROUPS && memory.groups.len() > 1 {
            total -= memory.groups.pop_front().map_or(0, |(_, images)| size(&images));
        }
        Ok(images)
    }
}

impl Records for ParquetRecords {
    fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&self, requested: &[u64]) -> Result<(), String> {
        let requested: HashSet<u64> = requested.iter().copied().collect();
        let (mut kept, mut size) = (Some(HashMap::new()), 0);
        for (group, rows) in self.starts.windows(2).enumerate() {
            if !(rows[0]..rows[1]).any(|row| requested.contains(&row)) {
                continue;
            }
            self.images(group..group + 1, |row, image| {
                let row = rows[0] + row;
                if requested.contains(&row)
                    && let Some(images) = &mut kept
                {
                    size += image.len();
                    images.insert(row, image.data().to_vec());
                }
            })?;
            if size > MAX_KEPT {
                kept = None;
                break;
            }
        }
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) =
            Memory { kept, groups: VecDeque::new() };
        Ok(())
    }

    fn read(&self, index: u64) -> Result<Content, String> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &memory.kept {
            return Ok(Content::Encoded(kept.get(&index).ok_or("the row was not prefetched")?.clone()));
        }
        let group = self.starts.partition_point(|start| *start <= index) - 1;
        let start = *self
            .starts
            .get(group)
            .filter(|_| group + 1 < self.starts.len())
            .ok_or("there is no such row")?;
        let images = self.group(&mut memory, group)?;
        drop(memory);
        let image = usize::try_from(index - start).ok().and_then(|row| images.get(row));
        Ok(Content::Encoded(image.ok_or("the row group has fewer images than rows")?.data().to_vec()))
    }
}

type Reader = SerializedFileReader<std::fs::File>;

fn reader(path: &Path) -> Result<Reader, String> {
    let file = files::open(path, u64::MAX).map_err(|error| error.to_string())?;
    SerializedFileReader::new(file).map_err(|error| error.to_string())
}

/// The first of these columns that exists.
fn place(reader: &Reader, names: &[String]) -> Result<usize, String> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let place = |name: &String| {
        (0..schema.num_columns()).find(|index| schema.column(*index).path().string() == *name)
    };
    names.iter().find_map(place).ok_or_else(|| format!("it has no column {}", names.join(" or ")))
}

/// Calls `each` with the row, counted from the first of these row groups, and the value of every entry in the first of
/// these columns that exists; a missing value is an error.
///
/// The library trusts some of its input and panics if pages contradict each other; callers report that as a damaged
/// file too.
fn read_column<T: DataType>(
    reader: &Reader,
    names: &[String],
    groups: Range<usize>,
    mut each: impl FnMut(u64, T::T),
) -> Result<(), String> {
    let reason = |error: ParquetError| error.to_string();
    let place = place(reader, names)?;
    let descriptor = reader.metadata().file_metadata().schema_descr().column(place);
    if descriptor.physical_type() != T::get_physical_type() || descriptor.max_rep_level() != 0 {
        return Err(format!("its column {} has an unexpected type", descriptor.path().string()));
    }
    let present = descriptor.max_def_level();
    let mut row = 0;
    for group in groups {
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

    use super::{Columns, MAX_ROWS, ParquetRecords};

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
            let table = ParquetRecords::open(file.path().to_owned(), Columns::usual());
            let labels = table.unwrap().labels();
            assert_eq!(labels.is_ok(), read, "{:?}", labels.err());
        }
        assert!(file.as_file().metadata().unwrap().len() < 1 << 20);
    }
}
