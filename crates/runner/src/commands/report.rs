//! `san report`: tables in the terminal and in files, figures, a summary for scripts.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Result;
use report::export::{Exporter, Terminal};
use report::{Comparison, Request};
use runner::error::RunError;

use super::output;

/// Options of `san report`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  san report vtab\n  san report vtab --figures\n  san report vtab --json\n  \
    san report vtab --tensorboard events && tensorboard --logdir events"
)]
pub(crate) struct Arguments {
    /// Name of the experiment, usually that of its suite: vtab, ...
    experiment: String,
    /// Only this profile; by default all that were run, each in its own table.
    #[arg(long)]
    profile: Option<String>,
    /// Draw the figures instead of the tables.
    #[arg(long)]
    figures: bool,
    /// Write the training curves as TensorBoard event files into this folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with = "figures")]
    tensorboard: Option<PathBuf>,
    /// Print one JSON array instead.
    #[arg(long, conflicts_with_all = ["figures", "tensorboard"])]
    json: bool,
    /// Folder of the results.
    #[arg(long, default_value = "results")]
    results: PathBuf,
}

pub(crate) fn report(arguments: &Arguments) -> Result<()> {
    let Arguments { experiment, results, .. } = arguments;
    let profile = arguments.profile.as_deref();
    if arguments.json {
        output::line(format_args!(
            "{}",
            serde_json::to_string_pretty(&comparisons(results, experiment, profile)?)?
        ))?;
        return Ok(());
    }
    if let Some(folder) = &arguments.tensorboard {
        let mut files = 0;
        for comparison in comparisons(results, experiment, profile)? {
            files += report::write_event_files(&comparison, &folder.join(&comparison.profile))?.len();
        }
        output::line(format_args!(
            "event files: {files}; view them with: tensorboard --logdir {}",
            folder.display()
        ))?;
        return Ok(());
    }
    if !arguments.figures {
        return compare(results, experiment, profile);
    }
    for mut comparison in comparisons(results, experiment, profile)? {
        crate::commands::shift::write_all(&comparison)?;
        let folder = |kind: &str| results.join(kind).join(experiment).join(&comparison.profile);
        let (tables, folder) = (folder("tables"), folder("figures"));
        report::keep_wider_tables(&mut comparison, &tables)?;
        announce("figure", &report::draw_figures(&comparison, &folder)?)?;
    }
    Ok(())
}

/// Prints the tables of an experiment and writes them under `<results>/tables`.
pub(crate) fn compare(results: &Path, experiment: &str, profile: Option<&str>) -> Result<()> {
    for mut comparison in comparisons(results, experiment, profile)? {
        let folder = results.join("tables").join(experiment).join(&comparison.profile);
        report::keep_wider_tables(&mut comparison, &folder)?;
        for table in comparison.tables()? {
            output::text(format_args!("{}\n", terminal().export(&table)?))?;
        }
        announce("table", &report::write_tables(&comparison, &folder)?)?;
    }
    Ok(())
}

/// The terminal's width and style; wide and plain if the output is redirected.
fn terminal() -> Terminal {
    let mut table = comfy_table::Table::new();
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    let styled = std::io::stdout().is_terminal();
    Terminal { width: table.width().filter(|_| styled).map_or(160, usize::from), styled }
}

fn announce(what: &str, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        output::line(format_args!("{what}: {}", path.display()))?;
    }
    Ok(())
}

/// One comparison per profile and backbone.
fn comparisons(results: &Path, experiment: &str, profile: Option<&str>) -> Result<Vec<Comparison>> {
    let runs = results.join("runs");
    let profiles = match profile {
        Some(profile) => BTreeSet::from([profile.to_owned()]),
        None => folders_in(&runs.join(experiment)),
    };
    if profiles.is_empty() {
        return Err(RunError::Missing {
            what: format!("a run of `{experiment}` under {}", runs.display()),
            reason: format!("create one with: just reproduce {experiment}"),
        }
        .into());
    }
    let mut all = Vec::new();
    for profile in profiles {
        let request = Request {
            runs: runs.join(experiment),
            experiment: experiment.to_owned(),
            profile,
            backbone: None,
        };
        all.extend(report::compare(&request)?);
    }
    Ok(all)
}

/// Names of the folders in a folder; none where it does not exist.
pub(super) fn folders_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
