//! `san evaluate`: the score of a saved adapter, trained here or by peft, on data of any kind; nothing is trained.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use comfy_table::{Table, presets};
use report::record::Evaluation;
use runner::config::experiment::{Experiment, OneOrMany};
use runner::config::{MethodChoice, Selection};
use runner::error::RunError;
use runner::io::files::create_folder;
use runner::models::{NamedArchitecture, SavedAdapter};
use runner::plan::Plan;
use runner::resources::Resources;
use runner::tasks::{EvalScores, evaluate as score};
use runner::train::checkpoint::CheckpointFile;
use runner::train::signals::{RUNNER_DEADLINE, StopFlag};
use runner::train::trainer::RunControl;
use runner::workers::device;
use serde_json::json;

use super::meter::{Meter, Unit};
use super::output;
use crate::commands::run::experiment_file;

/// Options of `san evaluate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  san evaluate peft_adapter --model weights/vit --set photos/\n  \
    san evaluate peft_adapter --model llama-7b --experiment commonsense --profile paper --json")]
pub(crate) struct Arguments {
    /// A folder saved by peft, the folder of a finished run, or an adapter file.
    adapter: PathBuf,
    /// The model that it was trained on: its name, or the path of its folder.
    #[arg(long)]
    model: String,
    /// Your own data: a folder of images, or a file of rows or of conversations.
    #[arg(long = "set", value_name = "PATH")]
    own_set: Option<PathBuf>,
    /// The experiment whose sets and protocol are used; if left out, `classification`, `instruction_following` or
    /// `visual_question_answering`, by the kind of the model.
    #[arg(long)]
    experiment: Option<String>,
    /// Its profile: `embedded` if left out, or the only one.
    #[arg(long)]
    profile: Option<String>,
    /// Only these of its sets.
    #[arg(long, value_delimiter = ',', conflicts_with = "own_set")]
    sets: Option<Vec<String>>,
    /// Folder for the predictions; they are not kept if it is left out.
    #[arg(long)]
    output: Option<PathBuf>,
    /// auto, cpu or cuda.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn evaluate(arguments: &Arguments) -> Result<()> {
    let stop = StopFlag::install(RUNNER_DEADLINE)?;
    let mut resources = Resources::new(device::resolve(&arguments.device)?);
    let saved = SavedAdapter::read(&arguments.adapter, &resources.models.base(&arguments.model)?)?;
    let usual = match resources.models.architecture(&arguments.model)? {
        NamedArchitecture::Vision(_) => "classification",
        NamedArchitecture::Language(_) => "instruction_following",
        NamedArchitecture::Llava(_) => "visual_question_answering",
    };
    let path = experiment_file(arguments.experiment.as_deref().unwrap_or(usual));
    let experiment = Experiment::read(&path)?;
    let selection = Selection {
        methods: vec![MethodChoice {
            method: saved.method.clone(),
            options: saved.options.clone(),
            // Nothing is trained at it.
            learning_rate: Some(OneOrMany::One(1.0)),
            adapter: Some(arguments.adapter.display().to_string()),
        }],
        sets: arguments.sets.clone(),
        own_set: arguments.own_set.clone(),
        models: Some(vec![arguments.model.clone()]),
        seeds: Some(vec![0]),
        ..Selection::default()
    };
    let profile = arguments.profile.as_deref();
    let plan =
        stop.interruptible(|| Plan::resolve(&experiment, profile, &selection, &mut resources, &path, true))?;
    let meter = Meter::new("preparing".into(), Unit::Steps, 0);
    let mut progress = |done, total| meter.show(done, total);
    let mut scores = Vec::new();
    for row in &plan.finals {
        let temporary = tempfile::tempdir()?;
        let folder = match &arguments.output {
            Some(output) => output.join(&row.run.set),
            None => temporary.path().to_owned(),
        };
        create_folder(&folder)?;
        check_classes(&saved, &arguments.adapter, row.run.set_label(), &row.run, &mut resources)?;
        // Nothing is trained, so nothing is saved there.
        let checkpoint = CheckpointFile::of_run(temporary.path(), &row.run.name()?, Duration::MAX);
        let mut control = RunControl { stop: &stop, checkpoint: &checkpoint, progress: &mut progress };
        scores.push((row.run.set_label(), score(&row.run, &mut resources, &folder, &mut control)?));
    }
    print(arguments, &saved.method()?.label()?, &scores)
}

/// A head for other classes than the set's would be left out, and random values evaluated.
fn check_classes(
    saved: &SavedAdapter,
    adapter: &Path,
    set: String,
    run: &runner::tasks::Run,
    resources: &mut Resources,
) -> Result<()> {
    let task = run.protocol.task().map_err(anyhow::Error::msg)?;
    let classes = task.classes(run, &mut resources.data)?;
    if classes == saved.classes {
        return Ok(());
    }
    let what = format!("a head for the {classes} classes of `{set}`");
    let reason = match saved.classes {
        0 => format!("{} was saved without `modules_to_save`", adapter.display()),
        other => format!("that of {} has {other} classes", adapter.display()),
    };
    Err(RunError::Missing { what, reason }.into())
}

/// One row for each set.
fn print(arguments: &Arguments, method: &str, scores: &[(String, EvalScores)]) -> Result<()> {
    let mut rows: Vec<(String, String, f64, u32)> = Vec::new();
    for (set, scores) in scores {
        if scores.evaluations.is_empty() {
            rows.extend(
                scores.score.map(|score| (set.clone(), scores.metric.clone(), score, scores.evaluated)),
            );
        }
        rows.extend(scores.evaluations.iter().map(|one| {
            let Evaluation { dataset, accuracy, metric, .. } = one;
            (dataset.name.clone(), metric.clone(), *accuracy, dataset.test)
        }));
    }
    if arguments.json {
        let scores: Vec<_> = rows
            .iter()
            .map(|(set, metric, score, samples)| json!({"set": set, "metric": metric, "score": score, "samples": samples}))
            .collect();
        let document = json!({
            "adapter": arguments.adapter, "method": method, "model": arguments.model, "scores": scores,
        });
        return output::line(format_args!("{document}"));
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["set", "metric", "score, %", "samples"]);
    for (set, metric, score, samples) in rows {
        table.add_row([set, metric, format!("{:.2}", 100.0 * score), samples.to_string()]);
    }
    output::line(format_args!("{method} from {} on {}", arguments.adapter.display(), arguments.model))?;
    output::line(format_args!("{table}"))
}
