//! TensorBoard event files of each training run, made from the logs next to the records.
//!
//! A run is named `<backbone>/<set>/<method>-seed<seed>`; each number in a line of a log becomes a scalar at its step or
//! epoch. The format is that of TensorFlow's `record_writer.cc` (length and data, each with a masked CRC-32C) around
//! messages of `event.proto`; three message types of a few fields each do not need a protobuf compiler, and the one
//! crate that writes these files is no longer maintained.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};
use serde_json::{Map, Value};

use crate::comparison::Comparison;
use crate::error::ReportError;
use crate::files::write_atomically;
use crate::load::Stored;
use crate::load::logs::json_lines;
use crate::record::{EPOCHS_FILE, STEPS_FILE};
use crate::text::path_component;

/// Added to a rotated checksum, so that checksums of data that contain checksums remain effective.
const MASK_DELTA: u32 = 0xa282_ead8;

/// Writes an event file for each run that has logs, under `folder` (created if needed). Returns their paths.
///
/// # Errors
/// When a log is malformed or the folder cannot be written.
pub fn write_event_files(comparison: &Comparison, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    // A language model that is evaluated on several data sets was trained once and has a row for each.
    let runs: BTreeMap<&Path, &Stored> =
        comparison.records().iter().map(|stored| (stored.path.as_path(), stored)).collect();
    for stored in runs.into_values() {
        let Some(events) = events_of(stored)? else { continue };
        let path = folder.join(run_name(stored)).join(file_name(stored));
        write_atomically(&path, |scratch| std::fs::write(scratch, events))?;
        written.push(path);
    }
    Ok(written)
}

pub(super) fn run_name(stored: &Stored) -> PathBuf {
    let record = &stored.record;
    let run = path_component(&format!("{}-seed{}", record.method.label, record.seed));
    // The name of a synthetic set has two parts.
    let set: PathBuf = stored.learned().split('/').map(path_component).collect();
    Path::new(&path_component(&record.backbone.name)).join(set).join(run)
}

/// TensorBoard looks for `tfevents` in a name.
fn file_name(stored: &Stored) -> String {
    let Stored { record, .. } = stored;
    path_component(&format!("events.out.tfevents.{}.{}", record.provenance.finished_at, record.run))
}

/// The bytes of a run's event file; `None` if it has no log.
fn events_of(stored: &Stored) -> Result<Option<Vec<u8>>, ReportError> {
    // The logs have no timestamps: every event gets the time at which the run ended.
    let wall_time = stored.record.provenance.finished_at as f64;
    let mut file = EventFile::new(wall_time);
    let mut any = false;
    for (name, axis) in [(STEPS_FILE, "step"), (EPOCHS_FILE, "epoch")] {
        let path = stored.path.with_file_name(name);
        if !path.exists() {
            continue;
        }
        any = true;
        for (line, number) in json_lines::<Map<String, Value>>(&path)?.iter().zip(1..) {
            let step = line.get(axis).and_then(Value::as_i64).ok_or_else(|| ReportError::Drawing {
                path: path.clone(),
                reason: format!("entry {number} has no integer `{axis}`"),
            })?;
            let mut scalars = Vec::new();
            collect(line, axis, axis, &mut scalars);
            file.scalars(wall_time, step, &scalars);
        }
    }
    Ok(any.then_some(file.bytes))
}

/// Adds the numbers of a line as `<prefix>/<field>`, including those of nested objects; the field `axis` is skipped.
pub(super) fn collect(line: &Map<String, Value>, axis: &str, prefix: &str, scalars: &mut Vec<(String, f64)>) {
    for (field, value) in line {
        let tag = format!("{prefix}/{field}");
        match value {
            Value::Number(number) if field != axis => {
                scalars.push((tag, number.as_f64().unwrap_or(f64::NAN)));
            }
            Value::Object(inner) => collect(inner, axis, &tag, scalars),
            _ => {}
        }
    }
}

/// An event file in memory.
struct EventFile {
    bytes: Vec<u8>,
}

impl EventFile {
    fn new(wall_time: f64) -> Self {
        let mut file = Self { bytes: Vec::new() };
        let mut event = Message::default();
        event.double(1, wall_time);
        event.bytes(3, b"brain.Event:2");
        file.record(&event.0);
        file
    }

    /// One event with a value for each tag.
    fn scalars(&mut self, wall_time: f64, step: i64, scalars: &[(String, f64)]) {
        let mut summary = Message::default();
        for (tag, number) in scalars {
            let mut value = Message::default();
            value.bytes(1, tag.as_bytes());
            value.float(2, *number as f32);
            summary.bytes(1, &value.0);
        }
        let mut event = Message::default();
        event.double(1, wall_time);
        event.integer(2, step);
        event.bytes(5, &summary.0);
        self.record(&event.0);
    }

    fn record(&mut self, data: &[u8]) {
        let length = (data.len() as u64).to_le_bytes();
        for part in [&length[..], data] {
            self.bytes.extend_from_slice(part);
            self.bytes.extend(masked_checksum(part).to_le_bytes());
        }
    }
}

fn masked_checksum(data: &[u8]) -> u32 {
    const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    CASTAGNOLI.checksum(data).rotate_right(15).wrapping_add(MASK_DELTA)
}

/// A protobuf message under construction; the first argument of each is the field's number.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn double(&mut self, field: u8, value: f64) {
        self.0.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u8, value: f32) {
        self.0.push(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn integer(&mut self, field: u8, value: i64) {
        self.0.push(field << 3);
        self.varint(value as u64);
    }

    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.0.push(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by tensorboard 2.21.0: its `RecordWriter` with the `Event`s of the test.
    const BY_TENSORBOARD: &str = "\
        1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c3a000000000000001295eae2090000\
        00000000044010032a2d0a100a09737465702f6c6f7373150000803e0a190a12737465702f6c6561726e696e675f72617465156f12833a\
        f6c7c719200000000000000029eda95009000000000000044010ac022a120a100a09737465702f6c6f737315000000000ebd6793";

    #[test]
    fn the_bytes_equal_those_of_tensorboard() {
        let mut file = EventFile::new(1.5);
        file.scalars(2.5, 3, &[("step/loss".into(), 0.25), ("step/learning_rate".into(), 1e-3)]);
        file.scalars(2.5, 300, &[("step/loss".into(), 0.0)]);
        let hex: String = file.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, BY_TENSORBOARD);
    }

    #[test]
    fn nested_fields_have_their_own_tags_and_the_axis_has_none() {
        let line =
            serde_json::json!({"epoch": 2, "train_loss": 0.5, "part_accuracies": {"nt": 0.25}, "note": "x"});
        let mut scalars = Vec::new();
        collect(line.as_object().unwrap(), "epoch", "epoch", &mut scalars);
        scalars.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(scalars, [("epoch/part_accuracies/nt".into(), 0.25), ("epoch/train_loss".into(), 0.5)]);
    }
}
