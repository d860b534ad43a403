//! The first stage of LLaVA's recipe: the projector alone is trained, tower and language model as they are, before any
//! method is. It sees the questions that a method trains on while its settings are chosen, and none of `val` or `test`.

use anyhow::{Result, bail};
use backbones::llava;
use report::record::{Stage, State};
use san_core::methods::UNTRAINED;
use serde::Serialize;
use serde_json::Map;
use tch::Tensor;

use crate::config::experiment::Input;
use crate::plan::cell::Cell;
use crate::resources::context::Context;
use crate::tasks::language::Run;
use crate::train::trainer::Session;

/// How a projector is aligned.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Alignment {
    /// Passes over the training questions.
    pub epochs: u64,
    /// Learning rate at the top; it goes as a method's does.
    pub learning_rate: f64,
    /// Seed of the order of the questions.
    pub seed: u64,
}

/// What was trained.
#[derive(Debug)]
pub struct Aligned {
    /// The projector's tensors by name.
    pub projector: Vec<(String, Tensor)>,
    /// Mean loss of the last epoch, nats a token.
    pub train_loss: f64,
}

impl Alignment {
    /// The training as a cell, from any cell of the experiment on the same backbone.
    pub fn cell(&self, cell: &Cell) -> Cell {
        let mut cell = Cell {
            stage: Stage::Tune,
            method: UNTRAINED.into(),
            options: Map::new(),
            learning_rate: self.learning_rate,
            chosen_from: Vec::new(),
            searched: Vec::new(),
            row: None,
            seed: self.seed,
            ..cell.clone()
        };
        cell.protocol.epochs = self.epochs;
        if let Input::Questions(questions) = &mut cell.protocol.input {
            questions.projector = None;
        }
        cell
    }
}

/// Trains the projector of the cell's backbone.
///
/// # Errors
/// When data or weights cannot be read, the loss is not finite, or a signal asked to stop.
pub fn align(cell: &Cell, context: &mut Context, session: &mut Session<'_>) -> Result<Aligned> {
    let names = llava::Architecture::projector_tensors().to_vec();
    let method = cell.method()?;
    let mut run = session.stop.interruptible(|| Run::prepare(cell, method, &names, context))?;
    let state = run.train(session).map_err(|error| run.keep(error, session))?;
    if state == State::Diverged {
        bail!("the loss is not finite: try a lower --learning-rate");
    }
    let tensor = |name: String| Ok((name.clone(), run.learner.trainables.get(&name)?.f_get(0)?.f_detach()?));
    let projector = names.into_iter().map(tensor).collect::<Result<_>>()?;
    let train_loss = run.learner.progress.losses.last().copied().unwrap_or(f64::NAN);
    Ok(Aligned { projector, train_loss })
}
