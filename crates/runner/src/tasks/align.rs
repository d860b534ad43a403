//! The first stage of LLaVA's recipe: only the projector is trained, with tower and language model frozen, before any
//! method is applied. It uses the questions that methods train on during tuning, and none of `val` or `test`.

use anyhow::{Result, bail};
use backbones::vlm::llava;
use report::record::Stage;
use san_core::methods::UNTRAINED;
use serde::Serialize;
use serde_json::Map;
use tch::Tensor;

use super::Run;
use super::execute::GroupExecution;
use crate::resources::Resources;
use crate::train::trainer::RunControl;

/// How a projector is aligned.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Alignment {
    /// Epochs over the training questions.
    pub epochs: u64,
    /// Peak learning rate; its schedule is that of the methods.
    pub learning_rate: f64,
    /// Seed of the order of the questions.
    pub seed: u64,
}

/// A trained projector.
#[derive(Debug)]
pub struct Aligned {
    /// The projector's tensors by name.
    pub projector: Vec<(String, Tensor)>,
    /// Mean loss of the last epoch, in nats per token.
    pub train_loss: f64,
}

impl Alignment {
    /// The alignment as a run, derived from any run of the experiment on the same backbone.
    pub fn run(&self, run: &Run) -> Run {
        let mut run = Run {
            stage: Stage::Tune,
            method: UNTRAINED.into(),
            options: Map::new(),
            learning_rate: self.learning_rate,
            chosen_from: Vec::new(),
            searched: Vec::new(),
            row: None,
            seed: self.seed,
            ..run.clone()
        };
        run.protocol.epochs = self.epochs;
        run.protocol.ema = None;
        if let Some(task) = &mut run.protocol.visual_question_answering {
            task.projector = None;
            task.language.select = None;
        }
        run
    }
}

/// Trains the projector of the run's backbone.
///
/// # Errors
/// When data or weights cannot be read, the loss is not finite, or a signal asked to stop.
pub fn align(run: &Run, resources: &mut Resources, control: &mut RunControl<'_>) -> Result<Aligned> {
    let names = llava::Architecture::projector_tensors().to_vec();
    let modules = Some((names.clone(), run.learning_rate));
    let mut execution = control.stop.interruptible(|| {
        let task = run.protocol.task().map_err(anyhow::Error::msg)?;
        GroupExecution::prepare(std::slice::from_ref(run), task, modules, resources)
    })?;
    execution.trainer.restore(control.checkpoint)?;
    execution.train(resources, control).map_err(|error| execution.save_after_error(error, control))?;
    let progress = &execution.trainer.progress.runs[0];
    let (None, Some(&train_loss)) = (progress.diverged_after, progress.losses.last()) else {
        bail!("the loss is not finite: try a lower --learning-rate");
    };
    let trainables = &execution.trainer.trainables;
    let tensor = |name: String| Ok((name.clone(), trainables.get(&name)?.f_get(0)?.f_detach()?));
    Ok(Aligned { projector: names.into_iter().map(tensor).collect::<Result<_>>()?, train_loss })
}
