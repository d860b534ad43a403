//! Predictions as Parquet, with required and optional columns, and damaged files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::Int32Type;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use report::load::predictions::{PREDICTIONS_FILE, read};

fn write(path: &Path, kind: &str, names: [&str; 3], columns: [&[i32]; 3]) {
    let fields = names.map(|name| format!("{kind} INT32 {name};")).concat();
    let schema = Arc::new(parse_message_type(&format!("message answers {{ {fields} }}")).unwrap());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    // Two row groups, so that the columns are read across them.
    for half in [0..2, 2..columns[0].len()] {
        let mut group = writer.next_row_group().unwrap();
        for values in columns {
            let mut column = group.next_column().unwrap().unwrap();
            let values = &values[half.clone()];
            let levels = vec![1; values.len()];
            let levels = (kind == "OPTIONAL").then_some(levels.as_slice());
            column.typed::<Int32Type>().write_batch(values, levels, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

const NAMES: [&str; 3] = ["index", "label", "predicted"];

#[test]
fn parquet_is_read_with_required_and_with_nullable_columns() {
    for kind in ["REQUIRED", "OPTIONAL"] {
        let folder = tempfile::tempdir().unwrap();
        write(
            &folder.path().join(PREDICTIONS_FILE),
            kind,
            NAMES,
            [&[0, 1, 2, 3], &[5, 5, 7, 1], &[5, 6, 7, 0]],
        );
        let answers = read(folder.path(), None).unwrap().unwrap();
        assert_eq!(answers.labels, [5, 5, 7, 1]);
        assert_eq!(answers.right().collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(read(folder.path(), Some("boolq")).unwrap(), None, "that of one of several sets");
        let of_set = folder.path().join(format!("boolq.{PREDICTIONS_FILE}"));
        std::fs::rename(folder.path().join(PREDICTIONS_FILE), of_set).unwrap();
        assert_eq!(read(folder.path(), Some("boolq")).unwrap(), Some(answers));
    }
}

#[test]
fn a_folder_without_predictions_has_none() {
    assert_eq!(read(tempfile::tempdir().unwrap().path(), None).unwrap(), None);
}

#[test]
fn damaged_files_and_unexpected_columns_are_rejected_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PREDICTIONS_FILE);
    write(&path, "REQUIRED", ["index", "label", "answer"], [&[0, 1, 2], &[1, 1, 1], &[1, 1, 1]]);
    assert!(read(folder.path(), None).unwrap_err().to_string().contains("no column `predicted`"));
    write(&path, "REQUIRED", NAMES, [&[0, 1, 2], &[1, 1, 1], &[1, 1, 1]]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(read(folder.path(), None).unwrap_err().to_string().contains(PREDICTIONS_FILE));
}
