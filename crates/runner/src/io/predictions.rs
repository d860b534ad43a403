//! A run's prediction for each sample: `predictions.parquet`, columns `index`, `label`, `predicted`; one file per set,
//! `<set>.predictions.parquet`, if a model is evaluated on several.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::Int32Type;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::error::RunError;
use crate::io::files::{write_atomically, writing};

/// Name of the file in a run's folder.
pub const FILE: &str = "predictions.parquet";

const SCHEMA: &str = "message predictions {
    required int32 index;
    required int32 label;
    required int32 predicted;
}";

/// Writes the predictions of a split in its order; equal predictions give equal bytes.
///
/// # Errors
/// When the folder cannot be written, or a number does not fit into 32 bits.
pub fn write(path: &Path, labels: &[i64], predicted: &[i64]) -> Result<(), RunError> {
    let column =
        |values: &mut dyn Iterator<Item = i64>| values.map(i32::try_from).collect::<Result<Vec<_>, _>>();
    let columns = || {
        let index = column(&mut (0..labels.len()).map(|index| index as i64))?;
        Ok([index, column(&mut labels.iter().copied())?, column(&mut predicted.iter().copied())?])
    };
    let columns = columns().map_err(|error: std::num::TryFromIntError| std::io::Error::other(error));
    let bytes = encode(&writing(path, columns)?).map_err(std::io::Error::other);
    write_atomically(path, &writing(path, bytes)?)
}

fn encode(columns: &[Vec<i32>; 3]) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    // The library's version is not part of the result.
    let properties =
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_created_by("san".into()).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for values in columns {
        if let Some(mut column) = group.next_column()? {
            column.typed::<Int32Type>().write_batch(values, None, None)?;
            column.close()?;
        }
    }
    group.close()?;
    writer.into_inner()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    #[test]
    fn a_label_that_does_not_fit_is_an_error_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let refused = write(&path, &[1 << 40], &[1]).unwrap_err().to_string();
        assert!(refused.contains(FILE) && !path.exists(), "{refused}");
    }

    #[test]
    fn predictions_are_read_back_by_name_and_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        write(&path, &[3, 1], &[3, 2]).unwrap();
        let file = std::fs::File::open(path).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let row = |row: &parquet::record::Row| [0, 1, 2].map(|column| row.get_int(column).unwrap());
        assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), [[0, 3, 3], [1, 1, 2]]);
        let names: Vec<_> = rows[0].get_column_iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["index", "label", "predicted"]);
    }
}
