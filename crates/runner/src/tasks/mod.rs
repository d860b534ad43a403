//! One cell: train, evaluate, merge, write.
//!
//! The order of examples and every initial value are functions of (seed, purpose); a run depends on
//! nothing that ran before it in the same process, and goes on from a checkpoint bit for bit. The
//! training itself is in `training`; what is particular to a kind of data lies beside this file.

pub mod align;
mod classification;
mod inputs;
mod language;
mod language_objective;
mod material;
mod questions;
mod rows;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use data_loaders::{DatasetEntry, Split};
use report::record::{Dataset, Metrics, Parameters, Stage, State};
use san_core::spec::trainable::Group;
use san_core::{Layout, Trainables};

use crate::config::experiment::Input;
use crate::error::RunError;
use crate::plan::cell::Cell;
use crate::resources::context::Context;
use crate::train::trainer::Session;

/// The splits that a stage trains on and reads.
pub fn splits(stage: Stage) -> (Split, Split) {
    match stage {
        Stage::Tune => (Split::Train, Split::Val),
        Stage::Final => (Split::TrainVal, Split::Test),
    }
}

/// What a cell found and what it cost.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub state: State,
    /// What it was trained on and read on.
    pub dataset: Dataset,
    /// What was measured.
    pub metrics: Metrics,
    /// Training, without evaluation and reading.
    pub training: Duration,
    /// Evaluation, without reading.
    pub evaluation: Duration,
    /// Reading and decoding.
    pub reading: Duration,
    /// Bytes of the adapter file.
    pub adapter_bytes: u64,
    /// Parameters, counted.
    pub parameters: Parameters,
}

/// Trains and evaluates `cell` and writes its adapter and predictions into `folder`.
///
/// # Errors
/// When data or weights cannot be read, the folder cannot be written, or a signal asked to stop. A loss
/// that is not finite is no error: the outcome is [`State::Diverged`].
pub fn execute(
    cell: &Cell,
    context: &mut Context,
    folder: &Path,
    session: &mut Session<'_>,
) -> Result<Outcome> {
    match &cell.protocol.input {
        Input::Image(image) => classification::execute(cell, image, context, folder, session),
        Input::Text(_) | Input::Questions(_) => language::execute(cell, context, folder, session),
    }
}

/// Refuses data that are not what the cell was planned with.
fn require_planned_data(cell: &Cell, found: &str) -> Result<(), RunError> {
    if found == cell.data_checksum { Ok(()) } else { Err(RunError::Changed { set: cell.set.clone() }) }
}

/// Refuses weights that are not what the cell was planned with.
fn require_planned_weights(cell: &Cell, found: &str) -> Result<(), RunError> {
    if found == cell.weights_checksum {
        return Ok(());
    }
    Err(RunError::ChangedWeights { backbone: cell.backbone.clone() })
}

/// A set of which `read` samples were read; what was trained on is not counted yet.
fn dataset(name: &str, entry: &DatasetEntry, read: usize, checksum: &str) -> Result<Dataset> {
    Ok(Dataset {
        name: name.to_owned(),
        group: serde_json::to_value(entry.group)?.as_str().unwrap_or_default().to_owned(),
        order: entry.order,
        classes: entry.classes,
        train: 0,
        test: u32::try_from(read).unwrap_or(u32::MAX),
        checksum: checksum.to_owned(),
    })
}

/// Parameters of a backbone and of what is trained.
fn parameters(layout: &Layout, trainables: &Trainables) -> Parameters {
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let trained = |head: bool| -> i64 {
        let specs = trainables.iter().map(|(spec, _)| spec);
        specs.filter(|spec| (spec.group == Group::Head) == head).map(|spec| spec.count()).sum()
    };
    Parameters {
        backbone: unsigned(layout.parameters()),
        trainable: unsigned(trained(false)),
        head: unsigned(trained(true)),
    }
}
