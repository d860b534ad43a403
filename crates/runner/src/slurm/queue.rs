//! Job states from Slurm: `squeue` for pending and running jobs, `sacct` for those that have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::Result;

use crate::slurm::{Job, slurm};

/// States of a job that has not ended, as `squeue` prints them.
const LIVING: [&str; 8] =
    ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "SIGNALING"];

/// Number of tasks in each state.
pub type States = BTreeMap<String, usize>;

/// The states of the tasks of jobs; `None` without Slurm.
///
/// # Errors
/// When Slurm is installed and does not answer.
pub fn states(jobs: &[Job]) -> Result<Option<States>> {
    let Some(tasks) = squeue(jobs)? else { return Ok(None) };
    let mut all = sacct(jobs);
    all.extend(tasks);
    let mut states = States::new();
    for state in all.into_values() {
        *states.entry(state).or_default() += 1;
    }
    Ok(Some(states))
}

/// The jobs that are pending or running.
///
/// # Errors
/// When Slurm is not installed or does not answer.
pub fn living(jobs: &[Job]) -> Result<Vec<u64>> {
    let tasks = squeue(jobs)?.ok_or_else(|| slurm("squeue was not found: is Slurm installed?".into()))?;
    let living = tasks.into_iter().filter(|(_, state)| LIVING.contains(&state.as_str()));
    let ids: BTreeSet<u64> = living.filter_map(|(task, _)| job_of(&task)).collect();
    Ok(ids.into_iter().collect())
}

/// State by task; `None` if there is no `squeue`.
fn squeue(jobs: &[Job]) -> Result<Option<BTreeMap<String, String>>> {
    // All of this user's jobs: for a job ID that it no longer knows, squeue returns an error.
    let arguments = ["--noheader", "--me", "--array", "--states=all", "--format=%i|%T"];
    let output = match Command::new("squeue").args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(slurm(format!("squeue: {error}"))),
    };
    if !output.status.success() {
        return Err(slurm(format!("squeue: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(Some(parse(&String::from_utf8_lossy(&output.stdout), jobs)))
}

/// State by task of the jobs that ended; empty if accounting is off.
fn sacct(jobs: &[Job]) -> BTreeMap<String, String> {
    if jobs.is_empty() {
        return BTreeMap::new();
    }
    let ids = jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>().join(",");
    let arguments = ["--noheader", "--allocations", "--parsable2", "--format=JobID,State", "--jobs", &ids];
    match Command::new("sacct").args(arguments).output() {
        Ok(output) if output.status.success() => parse(&String::from_utf8_lossy(&output.stdout), jobs),
        _ => BTreeMap::new(),
    }
}

/// Lines `<job>_<task>|<state>` of these jobs.
fn parse(text: &str, jobs: &[Job]) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.trim().split_once('|'));
    let ours = lines.filter(|(task, _)| job_of(task).is_some_and(|id| jobs.iter().any(|job| job.id == id)));
    // `CANCELLED by 1000` is one state.
    let state = |state: &str| state.split_whitespace().next().unwrap_or_default().to_owned();
    ours.map(|(task, told)| (task.to_owned(), state(told))).collect()
}

fn job_of(task: &str) -> Option<u64> {
    task.split(['_', '.', '+']).next()?.parse().ok()
}

/// The maximum array size of this cluster; `None` if it does not report one.
///
/// # Errors
/// When Slurm is not installed.
pub fn array_size() -> Result<Option<usize>> {
    let output = Command::new("scontrol")
        .args(["show", "config"])
        .output()
        .map_err(|error| slurm(format!("scontrol: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.trim_start().starts_with("MaxArraySize"));
    Ok(line.and_then(|line| line.split_once('=')?.1.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::Part;

    #[test]
    fn lines_of_squeue_and_sacct_are_read_only_for_our_jobs() {
        let jobs = [Job { part: Part::Tune, id: 12, tasks: 3 }];
        let tasks = parse("12_0|RUNNING\n 12_1|CANCELLED by 0\n120_1|RUNNING\n12_[2]|PENDING\n", &jobs);
        let expected = [("12_0", "RUNNING"), ("12_1", "CANCELLED"), ("12_[2]", "PENDING")];
        assert_eq!(tasks, expected.map(|(task, state)| (task.to_owned(), state.to_owned())).into());
    }
}
