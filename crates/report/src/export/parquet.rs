//! A data frame as Parquet, by the crate `parquet`: polars' own writer would double the build time.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use polars::prelude::{Column, DataFrame, DataType as Kind, PolarsError};

/// Writes strings as UTF-8, integers as INT64, other numbers as DOUBLE; every column is nullable.
pub(crate) fn write(frame: &DataFrame, path: &Path) -> Result<(), std::io::Error> {
    let io_error = |error: ParquetError| std::io::Error::other(error.to_string());
    let fields: Vec<Arc<Type>> =
        frame.columns().iter().map(field).collect::<Result<_, _>>().map_err(io_error)?;
    let schema = Type::group_type_builder("runs").with_fields(fields).build().map_err(io_error)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let file = File::options().write(true).truncate(true).open(path)?;
    let fill = || -> Result<(), ParquetError> {
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        for column in frame.columns() {
            write_column(&mut group, column)?;
        }
        group.close()?;
        writer.close().map(|_| ())
    };
    fill().map_err(io_error)
}

fn field(column: &Column) -> Result<Arc<Type>, ParquetError> {
    let (physical, logical) = match column.dtype() {
        Kind::String => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::UInt64 => (Physical::INT64, None),
        _ => (Physical::DOUBLE, None),
    };
    let builder = Type::primitive_type_builder(column.name(), physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    Ok(Arc::new(builder.build()?))
}

fn write_column(group: &mut SerializedRowGroupWriter<'_, File>, column: &Column) -> Result<(), ParquetError> {
    let other = |error: PolarsError| ParquetError::General(error.to_string());
    match column.dtype() {
        Kind::String => {
            let values = column.str().map_err(other)?.iter();
            put::<ByteArrayType>(group, values.map(|value| value.map(ByteArray::from)))
        }
        Kind::UInt64 => {
            let values = column.u64().map_err(other)?.iter();
            put::<Int64Type>(group, values.map(|value| value.map(u64::cast_signed)))
        }
        _ => put::<DoubleType>(group, column.f64().map_err(other)?.iter()),
    }
}

/// A definition level of 1 means that the value is present.
fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    cells: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let Some(mut writer) = group.next_column()? else {
        return Err(ParquetError::General("a column is missing from the schema".into()));
    };
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    writer.typed::<T>().write_batch(&values, Some(&levels), None)?;
    writer.close()
}
