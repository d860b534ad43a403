//! `san report`: tables in the terminal and in files, figures, a summary for scripts.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Result;
use report::export::trackers::{tracked_runs, write_history_files};
use report::export::{Exporter, Terminal};
use report::{Comparison, Filter, Request};
use runner::error::RunError;

use super::{output, trackio};

/// Stands for every backbone.
const ALL: &str = "all";

/// Options of `san report`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  san report vtab\n  san report vtab --figures\n  san report vtab --json\n  \
    san report vtab --where 'method in (san, lora) and seed < 3' --columns averages,cost\n  \
    san report vtab --all-runs --backbones vit_micro,swin_micro\n  \
    san report vtab --tensorboard events && tensorboard --logdir events\n  \
    TRACKIO_WRITE_TOKEN=... san report vtab --trackio http://127.0.0.1:7860"
)]
pub(crate) struct Arguments {
    /// Name of the experiment, usually that of its suite: vtab, ...
    experiment: String,
    /// Only this profile; by default all that were run, each in its own table.
    #[arg(long)]
    profile: Option<String>,
    /// Only these backbones; several also have one table together. `all` is the default.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    backbones: Vec<String>,
    /// Only records that match an expression over their fields, such as `method in (san, lora) and seed < 3`.
    #[arg(long = "where", value_name = "EXPRESSION", value_parser = Filter::parse)]
    filter: Option<Filter>,
    /// All finished runs of the results, not only those of the latest plans.
    #[arg(long)]
    all_runs: bool,
    /// Only these columns of the main table, by group or header: averages, cost, natural, ...
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    columns: Vec<String>,
    /// Draw the figures instead of the tables.
    #[arg(long)]
    figures: bool,
    /// Write the training curves as TensorBoard event files into this folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with = "figures")]
    tensorboard: Option<PathBuf>,
    /// Write the training curves as files of Weights & Biases' layout into this folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["figures", "tensorboard"])]
    wandb_files: Option<PathBuf>,
    /// Send the training curves to a Trackio server at this address instead; its token in TRACKIO_WRITE_TOKEN.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["figures", "tensorboard", "wandb_files"])]
    trackio: Option<String>,
    /// Print one JSON array instead.
    #[arg(long, conflicts_with_all = ["figures", "tensorboard", "wandb_files", "trackio"])]
    json: bool,
    /// Folder of the results.
    #[arg(long, default_value = "results")]
    results: PathBuf,
}

pub(crate) fn report(arguments: &Arguments) -> Result<()> {
    let Arguments { experiment, results, .. } = arguments;
    let mut comparisons = comparisons(arguments)?;
    if arguments.json {
        output::line(format_args!("{}", serde_json::to_string_pretty(&comparisons)?))?;
        return Ok(());
    }
    if let Some(folder) = &arguments.tensorboard {
        let mut files = 0;
        for comparison in comparisons {
            files += report::write_event_files(&comparison, &folder.join(&comparison.profile))?.len();
        }
        output::line(format_args!(
            "event files: {files}; view them with: tensorboard --logdir {}",
            folder.display()
        ))?;
        return Ok(());
    }
    if let Some(folder) = &arguments.wandb_files {
        let mut files = 0;
        for comparison in &comparisons {
            files += write_history_files(comparison, &folder.join(&comparison.profile))?.len();
        }
        output::line(format_args!("history files: {files}, under {}", folder.display()))?;
        return Ok(());
    }
    if let Some(address) = &arguments.trackio {
        let mut entries = 0;
        for comparison in &comparisons {
            entries += trackio::send(address, &tracked_runs(comparison)?)?;
        }
        let server = address.split('?').next().unwrap_or_default();
        output::line(format_args!("sent to {server}: {entries} entries"))?;
        return Ok(());
    }
    if !arguments.figures {
        return print_tables(&mut comparisons, results, experiment, &arguments.columns);
    }
    for mut comparison in comparisons {
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
    let mut comparisons = comparisons(&Arguments {
        experiment: experiment.into(),
        profile: profile.map(str::to_owned),
        backbones: vec![ALL.into()],
        filter: None,
        all_runs: false,
        columns: Vec::new(),
        figures: false,
        tensorboard: None,
        wandb_files: None,
        trackio: None,
        json: false,
        results: results.into(),
    })?;
    print_tables(&mut comparisons, results, experiment, &[])
}

fn print_tables(
    comparisons: &mut [Comparison],
    results: &Path,
    experiment: &str,
    columns: &[String],
) -> Result<()> {
    for comparison in comparisons.iter_mut() {
        let folder = results.join("tables").join(experiment).join(&comparison.profile);
        report::keep_wider_tables(comparison, &folder)?;
        let mut tables = comparison.tables()?;
        let main = tables.remove(0).with_columns(columns)?;
        for table in std::iter::once(main).chain(tables) {
            output::text(format_args!("{}\n", terminal().export(&table)?))?;
        }
        announce("table", &report::write_tables(comparison, &folder)?)?;
    }
    for of_profile in comparisons.chunk_by(|a, b| a.profile == b.profile) {
        if let Some(table) = report::over_backbones(&of_profile.iter().collect::<Vec<_>>()) {
            output::text(format_args!("{}\n", terminal().export(&table)?))?;
        }
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
fn comparisons(arguments: &Arguments) -> Result<Vec<Comparison>> {
    let Arguments { experiment, results, .. } = arguments;
    let runs = results.join("runs");
    let profiles = match &arguments.profile {
        Some(profile) => BTreeSet::from([profile.clone()]),
        None => folders_in(&runs.join(experiment)),
    };
    if profiles.is_empty() {
        return Err(RunError::Missing {
            what: format!("a run of `{experiment}` under {}", runs.display()),
            reason: format!("create one with: just reproduce {experiment}"),
        }
        .into());
    }
    let backbones: Vec<Option<&String>> =
        arguments.backbones.iter().map(|name| Some(name).filter(|name| *name != ALL)).collect();
    let mut all = Vec::new();
    for profile in profiles {
        for backbone in &backbones {
            all.extend(report::compare(&Request {
                runs: runs.join(experiment),
                experiment: experiment.clone(),
                profile: profile.clone(),
                backbone: backbone.cloned(),
                all_runs: arguments.all_runs,
                filter: arguments.filter.clone(),
            })?);
        }
    }
    Ok(all)
}

/// Names of the folders in a folder; empty if it does not exist.
pub(super) fn folders_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
