//! Records as a data frame: one row per record, for grouping and for the tidy CSV.
//!
//! This module and `export::parquet` are the only ones that use polars. The columns are those that are useful as
//! filters; the full record is in its JSON file.

use polars::prelude::{
    ChunkApply, Column, CsvWriter, DataFrame, GroupsIndicator, IntoColumn, PolarsError, SerWriter,
    StringChunked,
};

use crate::error::ReportError;
use crate::load::Stored;
use crate::record::{Record, State};
use crate::text::csv_cell;

/// One row for each record, in the order given. Accuracy in [0, 1]; seconds; bytes.
///
/// # Errors
/// When polars rejects the columns.
pub fn of_records(records: &[Stored]) -> Result<DataFrame, ReportError> {
    let text = |name: &str, of: fn(&Record) -> String| {
        Column::new(name.into(), records.iter().map(|stored| of(&stored.record)).collect::<Vec<_>>())
    };
    let count = |name: &str, of: fn(&Record) -> Option<u64>| {
        Column::new(name.into(), records.iter().map(|stored| of(&stored.record)).collect::<Vec<_>>())
    };
    let real = |name: &str, of: fn(&Record) -> Option<f64>| {
        Column::new(name.into(), records.iter().map(|stored| of(&stored.record)).collect::<Vec<_>>())
    };
    let columns = vec![
        text("suite", |record| record.suite.clone()),
        text("profile", |record| record.profile.clone()),
        text("backbone", |record| record.backbone.name.clone()),
        text("method", |record| record.method.name.clone()),
        text("label", |record| record.method.label.clone()),
        text("group", |record| record.dataset.group.clone()),
        text("dataset", |record| record.dataset.name.clone()),
        count("order", |record| Some(record.dataset.order.into())),
        count("seed", |record| Some(record.seed)),
        text("state", |record| state(record.state).into()),
        real("accuracy", |record| record.metrics.accuracy),
        real("train_loss", |record| record.metrics.train_loss),
        real("test_selected", |record| record.metrics.test_selected),
        real("no_answer", |record| record.metrics.no_answer),
        real("merge_difference", |record| record.metrics.merge_difference),
        count("backbone_parameters", |record| Some(record.parameters.backbone)),
        count("trainable_parameters", |record| Some(record.parameters.trainable)),
        count("head_parameters", |record| Some(record.parameters.head)),
        count("steps", |record| Some(record.metrics.steps)),
        real("train_seconds", |record| Some(record.cost.train_seconds)),
        real("evaluate_seconds", |record| Some(record.cost.evaluate_seconds)),
        count("peak_memory", |record| record.cost.peak_memory),
        count("adapter_bytes", |record| Some(record.cost.adapter_bytes)),
        text("device", |record| record.provenance.device.clone()),
        text("commit", |record| record.provenance.commit.clone()),
        text("dirty", |record| record.provenance.dirty.to_string()),
        text("run", |record| record.run.clone()),
        text("further", further),
    ];
    DataFrame::new(records.len(), columns).map_err(frame_error)
}

/// The rows grouped by all columns of `by`, with groups in order of first appearance.
///
/// # Errors
/// When a column does not exist.
pub fn groups(frame: &DataFrame, by: &[&str]) -> Result<Vec<Vec<usize>>, ReportError> {
    let groups = frame.group_by_stable(by.iter().copied()).map_err(frame_error)?.into_groups();
    let rows = groups.iter().map(|group| match group {
        GroupsIndicator::Idx((_, rows)) => rows.iter().map(|&row| row as usize).collect(),
        GroupsIndicator::Slice([first, count]) => (first as usize..(first + count) as usize).collect(),
    });
    Ok(rows.collect())
}

/// The frame as CSV with a header; a missing number is an empty field.
///
/// # Errors
/// When polars cannot write it.
pub fn csv(frame: &DataFrame) -> Result<String, ReportError> {
    let mut frame = frame.clone();
    let texts: Vec<String> = frame
        .columns()
        .iter()
        .filter(|column| column.dtype().is_string())
        .map(|column| column.name().to_string())
        .collect();
    for name in texts {
        let safe = |texts: &StringChunked| texts.apply_values(csv_cell).into_column();
        let cells = frame.column(&name).and_then(|column| column.str().map(safe)).map_err(frame_error)?;
        frame.replace(&name, cells).map_err(frame_error)?;
    }
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).finish(&mut frame).map_err(frame_error)?;
    String::from_utf8(bytes)
        .map_err(|error| ReportError::Format { what: "the records".into(), reason: error.to_string() })
}

/// Additional metrics of the set, as `name=value` separated by spaces.
fn further(record: &Record) -> String {
    let [only] = record.metrics.evaluations.as_slice() else { return String::new() };
    let numbers = only.further.iter().map(|(name, value)| format!("{name}={value}"));
    numbers.collect::<Vec<_>>().join(" ")
}

fn state(state: State) -> &'static str {
    match state {
        State::Finished => "finished",
        State::Diverged => "diverged",
    }
}

fn frame_error(error: PolarsError) -> ReportError {
    ReportError::Format { what: "the records".into(), reason: error.to_string() }
}
