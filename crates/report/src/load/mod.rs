//! From a folder of runs to the records of a table.
//!
//! The folder is walked in sorted order, so that nothing downstream depends on the file system's order. A damaged
//! record is an error: a table made only from readable records would be misleading.

pub mod filter;
pub(crate) mod logs;
pub mod plans;
pub mod predictions;
pub mod server_scores;
pub mod weight_shift;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::ReportError;
use crate::load::filter::Filter;
use crate::load::plans::{RunPlan, plans_of};
use crate::load::server_scores::{ServerScore, server_scores};
use crate::record::{RECORD_FILE, Record, Stage};

/// What to compare.
#[derive(Debug, Clone)]
pub struct Request {
    /// Folder that contains the run folders, at any depth.
    pub runs: PathBuf,
    /// Name of the experiment.
    pub experiment: String,
    /// `embedded`, `small` or `paper`.
    pub profile: String,
    /// One backbone, or all that are found, each in its own table.
    pub backbone: Option<String>,
    /// All finished runs of the folder instead of those that the plans list.
    pub all_runs: bool,
    /// Only records that match.
    pub filter: Option<Filter>,
}

/// A record and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Path of the record; the run's other files are in the same folder.
    pub path: PathBuf,
    /// Its contents.
    pub record: Record,
    /// Whether it is one of several sets on which a model that was trained once was evaluated.
    pub is_part: bool,
}

impl Stored {
    /// What the model was trained on: the set, or the suite whose sets were trained on together.
    pub fn learned(&self) -> &str {
        if self.is_part { &self.record.suite } else { &self.record.dataset.name }
    }

    /// One row for each set that the record covers: itself, or the result of its model on each of several sets. The
    /// cost and the protocol are those of the single training run; [`crate::record::Metrics::evaluations`] keeps the
    /// set's own entry.
    pub fn rows(path: PathBuf, record: Record) -> Vec<Self> {
        if record.metrics.evaluations.is_empty() {
            return vec![Self { path, record, is_part: false }];
        }
        let rows = record.metrics.evaluations.iter().map(|evaluation| {
            let mut part = record.clone();
            part.dataset = evaluation.dataset.clone();
            part.metrics.accuracy = Some(evaluation.accuracy);
            part.metrics.metric.clone_from(&evaluation.metric);
            part.metrics.no_answer = evaluation.no_answer;
            part.metrics.evaluations = vec![evaluation.clone()];
            // The best epoch was chosen by the mean over the sets: it is not that of a single set.
            part.metrics.test_selected = None;
            Self { path: path.clone(), record: part, is_part: true }
        });
        rows.collect()
    }
}

/// Reads every record under `runs`, in sorted order of their paths, with the scores that servers returned for them.
///
/// # Errors
/// When a folder cannot be listed, or a record is unreadable, of another schema, or inconsistent.
pub fn read_records(runs: &Path) -> Result<Vec<Stored>, ReportError> {
    let mut paths = Vec::new();
    find_records(runs, &mut paths)?;
    paths.sort();
    let stores: BTreeSet<PathBuf> =
        paths.iter().filter_map(|path| store_of(path)).map(Path::to_owned).collect();
    let scores: Vec<Vec<ServerScore>> =
        stores.iter().map(|store| server_scores(store)).collect::<Result<_, _>>()?;
    let scores = scores.concat();
    let read = |path: PathBuf| read_valid(path, &scores);
    let rows: Vec<Vec<Stored>> = paths.into_par_iter().map(read).collect::<Result<_, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// The finished runs of one table.
#[derive(Debug, Clone)]
pub struct Selection {
    /// What was requested; none in a folder of records without a plan.
    pub plan: Option<RunPlan>,
    /// Its records, in sorted order of their paths.
    pub records: Vec<Stored>,
}

/// The final records that match the request: those of each plan of the profile's store, or all where there is no plan.
///
/// # Errors
/// As [`read_records`]; when a plan cannot be read; and when nothing matches, with what was found instead.
pub fn select(request: &Request) -> Result<Vec<Selection>, ReportError> {
    let all = read_records(&request.runs)?;
    let is_requested = |record: &Record| {
        record.stage == Stage::Final
            && record.experiment == request.experiment
            && record.profile == request.profile
            && request.backbone.as_ref().is_none_or(|name| *name == record.backbone.name)
    };
    let found = describe(&all);
    let mut records: Vec<Stored> = all.into_iter().filter(|stored| is_requested(&stored.record)).collect();
    if let Some(filter) = &request.filter {
        let matches = filter.matches(&records.iter().map(|stored| &stored.record).collect::<Vec<_>>())?;
        let mut matches = matches.into_iter();
        records.retain(|_| matches.next() == Some(true));
    }
    // A selection of a plan's runs is not an incomplete plan.
    let ignores_plans = request.all_runs || request.filter.is_some();
    let plans = if request.all_runs { Vec::new() } else { plans_of(&request.runs.join(&request.profile))? };
    let mut selections = if plans.is_empty() {
        vec![Selection { plan: None, records }]
    } else {
        plans.into_iter().map(|plan| of_plan(plan, &records)).collect()
    };
    if ignores_plans {
        selections.iter_mut().for_each(|selection| selection.plan = None);
    }
    selections.retain(|selection| !selection.records.is_empty());
    if selections.is_empty() {
        return Err(ReportError::Empty {
            runs: request.runs.clone(),
            experiment: request.experiment.clone(),
            profile: request.profile.clone(),
            backbone: request.backbone.as_ref().map_or(String::new(), |name| format!(", backbone `{name}`")),
            found,
        });
    }
    Ok(selections)
}

/// The records that a plan lists. Runs of other settings are in the same folder and are not part of its table.
fn of_plan(plan: RunPlan, records: &[Stored]) -> Selection {
    let names: BTreeSet<&str> = plan.runs.iter().map(|run| run.name.as_str()).collect();
    let planned = records.iter().filter(|stored| names.contains(stored.record.run.as_str()));
    let records = planned.cloned().collect();
    Selection { plan: Some(plan), records }
}

fn find_records(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), ReportError> {
    let error = |source| ReportError::Folder { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        // Links are not followed: they could form a cycle.
        let kind = entry.file_type().map_err(error)?;
        // Folders that a worker is still writing, and internal folders of the commands.
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            find_records(&entry.path(), paths)?;
        } else if kind.is_file() && entry.file_name() == RECORD_FILE {
            paths.push(entry.path());
        }
    }
    Ok(())
}

/// The folder of a run's folder.
fn store_of(record: &Path) -> Option<&Path> {
    record.parent()?.parent()
}

fn read_valid(path: PathBuf, scores: &[ServerScore]) -> Result<Vec<Stored>, ReportError> {
    let record = Record::read(&path)?;
    if let Some(reason) = record.contradiction() {
        return Err(ReportError::Unsound { path, reason });
    }
    record.check_folder(&path)?;
    let entered = server_scores::entered(&path, &record, scores);
    let mut rows = Stored::rows(path, record);
    rows.extend(entered);
    Ok(rows)
}

fn describe(all: &[Stored]) -> String {
    let kinds: BTreeSet<String> = all
        .iter()
        .map(|Stored { record, .. }| {
            let stage = if record.stage == Stage::Final { "final" } else { "tuning" };
            format!("{} {} {} ({stage})", record.experiment, record.profile, record.backbone.name)
        })
        .collect();
    if kinds.is_empty() {
        return "there are no records".into();
    }
    format!("found records of: {}", Vec::from_iter(kinds).join(", "))
}
