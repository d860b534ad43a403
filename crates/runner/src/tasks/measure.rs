//! Measures what runs cost on this device: some steps and one evaluation of a group on generated data, with the code that
//! trains and evaluates every run.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use data_loaders::{DatasetEntry, QuestionForm, SplitCounts, dataset, datasets};

use super::classification::TestSelected;
use super::execute::GroupExecution;
use super::{DataSizes, Precision, Run, Stage, Unit};
use crate::error::RunError;
use crate::models::backbone::RANDOM;
use crate::resources::{DataSource, Resources};
use crate::train::checkpoint::CheckpointFile;
use crate::train::signals::StopFlag;
use crate::train::trainer::RunControl;

/// Steps before the measured ones: the first ones allocate. The trainer reads from the device after every 16 steps, so
/// that times there are those of finished steps.
const WARM_UP: u64 = 16;
const STEPS: u64 = 16;
/// The same where a step takes long; on a processor every step is finished when it returns.
const SLOW: Duration = Duration::from_secs(1);
const FEW_WARM_UP: u64 = 2;
const FEW_STEPS: u64 = 4;
/// Images, or prompts of a set, that are evaluated.
const EVALUATED: usize = 64;

/// The times of a group, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measured {
    /// Opening the data and allocating what is trained; the model was in memory.
    pub start: f64,
    /// Features before the first step.
    pub preparation: f64,
    /// One step.
    pub step: f64,
    /// One evaluation.
    pub evaluation: f64,
}

/// The runs on generated data of little size instead of their own, with random weights if those of their model are
/// missing; and the sizes of these data.
///
/// # Errors
/// When the model is of a kind that cannot be made without its files, or no set can be generated.
pub fn stand_in(runs: &[Run], resources: &mut Resources) -> Result<(Vec<Run>, DataSizes)> {
    let mut first = runs[0].clone();
    let batch = first.protocol.batch_size;
    // Two steps an epoch, so that every image is in memory after the first ones.
    let counts = SplitCounts { train: batch, val: batch, test: EVALUATED };
    first.stage = Stage::Final;
    first.data = DataSource::Synthetic(counts);
    first.protocol.epochs = WARM_UP + STEPS;
    if let Some(task) = &mut first.protocol.classification {
        (task.test_selected, task.part_accuracies) = (TestSelected::default(), None);
    }
    if let Some(task) = &mut first.protocol.instruction_following {
        task.language.select = None;
    }
    if let Some(task) = &mut first.protocol.visual_question_answering {
        task.language.select = None;
    }
    first.set = generated(&first.set, &first)?;
    first.sets.truncate(1);
    if let Some(set) = first.sets.first_mut() {
        *set = generated(set, &runs[0])?;
    }
    let task = first.protocol.task().map_err(anyhow::Error::msg)?;
    let unit = Unit { set: first.set.clone(), sets: first.sets.clone() };
    let data = task.describe(&unit, &first.data, &mut resources.data)?;
    let names = unit.names().into_iter().cloned();
    let sizes = DataSizes {
        sets: names.zip(data.sets.iter().map(|row| row.counts)).collect(),
        mixture: data.mixture,
    };
    let kind = first.protocol.precision.kind();
    let base = match task.base_model(&first.backbone, kind, &mut resources.models) {
        Ok(base) => base,
        Err(_) if !first.backbone.ends_with(RANDOM) => {
            let random = format!("{}{RANDOM}", first.backbone);
            let base = task.base_model(&random, kind, &mut resources.models)?;
            first.backbone = random;
            base
        }
        Err(error) => return Err(error),
    };
    let (weights_checksum, data_checksum) = (base.checksum().to_owned(), data.checksum);
    let of_run = |run: &Run| Run {
        seed: run.seed,
        learning_rate: run.learning_rate,
        data_checksum: data_checksum.clone(),
        weights_checksum: weights_checksum.clone(),
        adapter: None,
        ..first.clone()
    };
    Ok((runs.iter().map(of_run).collect(), sizes))
}

/// The set itself if it can be generated, otherwise one of its kind; the name of a suite stays.
fn generated(set: &str, run: &Run) -> Result<String> {
    let is_suite = !run.sets.is_empty() && set == run.set;
    let task = run.protocol.task().map_err(anyhow::Error::msg)?.name();
    let is_generated = |entry: &DatasetEntry| match task {
        "instruction_following" => entry.text.is_some(),
        "visual_question_answering" => {
            entry.questions.is_some_and(|asked| matches!(asked.form, QuestionForm::Benchmark(_)))
        }
        _ => entry.mini.is_some(),
    };
    if is_suite || dataset(set).is_ok_and(is_generated) {
        return Ok(set.to_owned());
    }
    let kin = datasets()?.iter().find(|entry| entry.official && is_generated(entry));
    let none = || RunError::Missing {
        what: format!("a generated set like `{set}`"),
        reason: "there is none".into(),
    };
    Ok(kin.map(|entry| entry.name.clone()).ok_or_else(none)?)
}

/// Trains a group of [`stand_in`]s for some steps and evaluates it; files are written into `folder`.
///
/// # Errors
/// When libtorch fails, or a file cannot be written.
pub fn measure(runs: &[Run], resources: &mut Resources, folder: &Path) -> Result<Measured> {
    let run = &runs[0];
    torch_ops::allow_tf32(run.protocol.precision == Precision::Tf32);
    let task = run.protocol.task().map_err(anyhow::Error::msg)?;
    let modules = task.modules_to_save().filter(|_| run.method != san_core::methods::UNTRAINED);
    let begun = Instant::now();
    let mut execution = GroupExecution::prepare(runs, task, modules, resources)?;
    let start = begun.elapsed().as_secs_f64();
    let (device, stop) = (resources.models.device(), StopFlag::default());
    let names = runs.iter().map(Run::name).collect::<Result<Vec<_>, _>>()?;
    let checkpoint = CheckpointFile::new(folder, "measured", &names, Duration::MAX);
    let mut ignored = |_, _| {};
    let mut control = RunControl { stop: &stop, checkpoint: &checkpoint, progress: &mut ignored };
    let begun = Instant::now();
    let (prepared, tuned) = execution.parts(device);
    prepared.before_training(&tuned, resources, &mut control)?;
    let waited = prepared.times().data_wait;
    // Images are generated here, and decoded where they are files.
    let preparation = begun.elapsed().saturating_sub(waited).as_secs_f64();
    let step = steps(&mut execution, resources, &checkpoint)?;
    let begun = Instant::now();
    let (prepared, tuned) = execution.parts(device);
    let folders: Vec<_> = (0..runs.len()).map(|run| folder.join(run.to_string())).collect();
    for folder in &folders {
        crate::io::files::create_folder(folder)?;
    }
    let folders: Vec<(usize, &Path)> = folders.iter().map(std::path::PathBuf::as_path).enumerate().collect();
    let waited = prepared.times().data_wait;
    prepared.evaluate(&tuned, &folders, &stop)?;
    let waited = prepared.times().data_wait.saturating_sub(waited);
    let evaluation = begun.elapsed().saturating_sub(waited).as_secs_f64();
    Ok(Measured { start, preparation, step, evaluation })
}

/// Seconds of a step; 0 if nothing is trained.
fn steps(
    execution: &mut GroupExecution<'_>,
    resources: &mut Resources,
    checkpoint: &CheckpointFile,
) -> Result<f64> {
    let (stop, begun) = (StopFlag::default(), Instant::now());
    let mut times: Vec<Instant> = Vec::new();
    let is_on_cpu = resources.models.device() == tch::Device::Cpu;
    let mut progress = |done: u64, _| {
        times.push(Instant::now());
        let is_slow = is_on_cpu && begun.elapsed() > SLOW * u32::try_from(done).unwrap_or(1);
        let enough = if is_slow { FEW_WARM_UP + FEW_STEPS } else { WARM_UP + STEPS };
        if done >= enough {
            stop.set();
        }
    };
    let mut control = RunControl { stop: &stop, checkpoint, progress: &mut progress };
    match execution.train(resources, &mut control) {
        Err(error) if !error.downcast_ref().is_some_and(|error| matches!(error, RunError::Interrupted)) => {
            return Err(error);
        }
        _ => {}
    }
    let warm_up = if times.len() as u64 >= WARM_UP + STEPS { WARM_UP } else { FEW_WARM_UP };
    let warm_up = usize::try_from(warm_up)?;
    let (Some(first), Some(last)) = (times.get(warm_up - 1), times.last()) else { return Ok(0.0) };
    let measured = times.len() - warm_up;
    Ok((*last - *first).as_secs_f64() / measured.max(1) as f64)
}
