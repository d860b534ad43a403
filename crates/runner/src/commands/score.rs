//! `san score`: enters what a benchmark's server returned for a run's submission file.

use std::path::{Path, PathBuf};

use anyhow::Result;
use report::record::RECORD_FILE;
use report::{Record, ServerScore, enter_server_score};
use runner::error::RunError;

use super::output;
use super::report::folders_in;

/// Options of `san score`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  san score vl --run 3f2a9c --set vqav2 --value 78.9 --source 'EvalAI test-dev, submission 412345'"
)]
pub(crate) struct Arguments {
    /// Name of the experiment, usually that of its suite.
    experiment: String,
    /// Name of the run's folder, or the start of it.
    #[arg(long)]
    run: String,
    /// The set.
    #[arg(long)]
    set: String,
    /// What the server returned, in percent.
    #[arg(long, value_parser = percent)]
    value: f64,
    /// Which server, phase and submission; shown with the score.
    #[arg(long)]
    source: String,
    /// Folder of the results.
    #[arg(long, default_value = "results")]
    results: PathBuf,
}

pub(crate) fn score(arguments: &Arguments) -> Result<()> {
    let Arguments { experiment, run, set, value, source, results } = arguments;
    let runs = results.join("runs").join(experiment);
    let folder = find(&runs, run)?;
    let record = Record::read(&folder.join(RECORD_FILE))?;
    let store = folder.parent().unwrap_or(&runs);
    let entry = ServerScore {
        run: record.run.clone(),
        set: set.clone(),
        score: value / 100.0,
        source: source.clone(),
    };
    let path = enter_server_score(&record, store, entry)?;
    output::line(format_args!(
        "{set}: {value} for {}, seed {}; entered in {}",
        record.method.label,
        record.seed,
        path.display()
    ))?;
    Ok(())
}

/// The only run whose name starts like this.
fn find(runs: &Path, start: &str) -> Result<PathBuf> {
    let profiles = folders_in(runs).into_iter().map(|profile| runs.join(profile));
    let folders = profiles.flat_map(|store| folders_in(&store).into_iter().map(move |name| store.join(name)));
    let is_meant =
        |folder: &PathBuf| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    let found: Vec<PathBuf> = folders.filter(is_meant).collect();
    let missing = |reason: String| RunError::Missing {
        what: format!("the run `{start}` under {}", runs.display()),
        reason,
    };
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(missing("no folder of a run starts like this".into()).into()),
        several => {
            Err(missing(format!("{} runs start like this; give more of the name", several.len())).into())
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 100".into()),
    }
}
