//! `san regenerate`: every table and figure of all suites that have records, as one page and one LaTeX document.

use std::path::{Path, PathBuf};

use anyhow::Result;
use report::{Comparison, Missing, ReportError, Request};
use runner::error::RunError;

use super::output;
use super::report::folders_in;

/// The suites and profiles of the paper; what has no records is listed with its command.
const SUITES: [&str; 5] = ["vtab", "fgvc", "gic", "commonsense", "vl"];
const PROFILES: [&str; 3] = ["embedded", "small", "paper"];

/// Options of `san regenerate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  san regenerate\n  san regenerate --profile embedded --output paper && \
    cd paper && pdflatex main.tex")]
pub(crate) struct Arguments {
    /// Only this profile.
    #[arg(long)]
    profile: Option<String>,
    /// Folder of the results.
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Folder of the documents; by default `document` in that of the results.
    #[arg(long)]
    output: Option<PathBuf>,
}

pub(crate) fn regenerate(arguments: &Arguments) -> Result<()> {
    let runs = arguments.results.join("runs");
    let is_wanted = |profile: &str| arguments.profile.as_deref().is_none_or(|wanted| wanted == profile);
    let mut comparisons = Vec::new();
    for experiment in folders_in(&runs) {
        for profile in folders_in(&runs.join(&experiment)).into_iter().filter(|profile| is_wanted(profile)) {
            comparisons.extend(finished(&runs, &experiment, profile)?);
        }
    }
    if comparisons.is_empty() {
        return Err(RunError::Missing {
            what: format!("a finished run under {}", runs.display()),
            reason: "create some with: just reproduce vtab".into(),
        }
        .into());
    }
    for comparison in &comparisons {
        super::shift::write_all(comparison)?;
    }
    let missing = missing(&comparisons, is_wanted);
    let folder = arguments.output.clone().unwrap_or_else(|| arguments.results.join("document"));
    let written = report::write_collection(&comparisons, &missing, &folder)?;
    for path in written.iter().filter(|path| path.extension().is_some_and(|ending| ending != "pgf")) {
        output::line(format_args!("document: {}", path.display()))?;
    }
    let figures = written.len() - 2;
    output::line(format_args!("{} comparisons, {figures} figures", comparisons.len()))?;
    for Missing { what, command } in &missing {
        output::line(format_args!("missing: {what}: {command}"))?;
    }
    output::line(format_args!("as PDF: cd {} && pdflatex main.tex && pdflatex main.tex", folder.display()))?;
    Ok(())
}

/// The comparisons of final runs; an experiment that only tuned has none.
fn finished(runs: &Path, experiment: &str, profile: String) -> Result<Vec<Comparison>> {
    let request = Request {
        runs: runs.join(experiment),
        experiment: experiment.into(),
        profile,
        backbone: None,
        all_runs: false,
        filter: None,
    };
    match report::compare(&request) {
        Err(ReportError::Empty { .. }) => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// Suites and profiles without records, and the runs that a plan still lacks.
fn missing(comparisons: &[Comparison], is_wanted: impl Fn(&str) -> bool) -> Vec<Missing> {
    let mut missing = Vec::new();
    for suite in SUITES {
        for profile in PROFILES.into_iter().filter(|profile| is_wanted(profile)) {
            // An ablation of a suite is not the suite.
            let is_there = |one: &Comparison| one.experiment() == suite && one.profile == profile;
            if !comparisons.iter().any(is_there) {
                missing.push(Missing {
                    what: format!("{}, profile {profile}", suite.to_uppercase()),
                    command: format!("just reproduce {suite} {profile}"),
                });
            }
        }
    }
    for comparison in comparisons {
        let absent = comparison.progress.as_ref().map_or(0, |progress| progress.missing.len());
        if absent > 0 {
            let (experiment, profile, backbone) =
                (comparison.experiment(), &comparison.profile, &comparison.backbone);
            missing.push(Missing {
                what: format!("{absent} runs of {experiment}, profile {profile}, {backbone}"),
                command: format!("san run {experiment} --profile {profile} --backbone {backbone}"),
            });
        }
    }
    missing
}
