//! Run groups: runs that differ only in seed and learning rate, which are trained together.
//!
//! They share one pass over the frozen weights: a step of K runs takes less time than K steps. A group is locked, trained
//! and published as a whole, and its composition follows from the plan alone, not from what is done already: a sweep that
//! was interrupted ends with the same bytes as one that was not. A run has the same numbers in a group as alone, up to
//! rounding.

use std::collections::HashMap;

use anyhow::Result;
use report::record::canonical_hash;
use san_core::methods::UNTRAINED;

use crate::tasks::{Memory, Run};

/// Number of different settings before a run among which its own are looked for.
const LOOKED_BACK: usize = 8;

/// Runs that are trained together, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct RunGroup {
    runs: Vec<Run>,
    names: Vec<String>,
    memory: Option<Memory>,
}

impl RunGroup {
    /// A group of the given runs.
    ///
    /// # Errors
    /// When a run cannot be serialised.
    pub fn new(runs: Vec<Run>) -> Result<Self> {
        let names = runs.iter().map(Run::name).collect::<Result<_, _>>()?;
        Ok(Self { runs, names, memory: None })
    }

    /// The same group with its steps computed in this way, if the protocol does not say how.
    #[must_use]
    pub fn with_memory(self, memory: Option<Memory>) -> Self {
        Self { memory, ..self }
    }

    /// How its steps are computed, if that was chosen for the device.
    pub fn memory(&self) -> Option<Memory> {
        self.memory
    }

    /// The same group with half the examples in a micro-batch; `None` if its task has no micro-batches, or there is only
    /// one example in each.
    pub fn with_smaller_micro_batches(&self) -> Option<Self> {
        let protocol = &self.runs[0].protocol;
        let choices = protocol.task().ok()?.step_choices(protocol.batch_size);
        let memory = self.memory.or(choices.first().copied())?;
        let halved = memory.halved(protocol.batch_size).filter(|_| protocol.has_micro_batches())?;
        Some(self.clone().with_memory(Some(halved)))
    }

    /// The runs as they are computed: with the chosen way in their protocol. Their names are those of the group.
    ///
    /// # Errors
    /// When a protocol has no task.
    pub fn computed_runs(&self) -> Result<Vec<Run>> {
        let Some(memory) = self.memory else { return Ok(self.runs.clone()) };
        let computed = |run: &Run| -> Result<Run> {
            let protocol = run.protocol.with_memory(memory).map_err(anyhow::Error::msg)?;
            Ok(Run { protocol, ..run.clone() })
        };
        self.runs.iter().map(computed).collect()
    }

    /// The runs.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The names of the runs.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The name of the run if there is only one, otherwise the hash of all names.
    pub fn name(&self) -> String {
        match &self.names[..] {
            [name] => name.clone(),
            names => blake3::hash(names.concat().as_bytes()).to_hex().to_string(),
        }
    }

    /// A short description, which says what its runs differ in.
    pub fn label(&self) -> String {
        let first = &self.runs[0];
        if self.runs.len() == 1 {
            return first.label();
        }
        let all = |what: &str, value: &dyn Fn(&Run) -> String| {
            let mut values: Vec<String> = self.runs.iter().map(value).collect();
            values.dedup();
            let plural = if values.len() > 1 { "s" } else { "" };
            format!("{what}{plural} {}", values.join(", "))
        };
        let seeds = all("seed", &|run| run.seed.to_string());
        let rates = all("lr", &|run| run.learning_rate.to_string());
        format!("{} {} {seeds} {rates}", first.set_label(), first.method)
    }
}

/// Packs the runs of a stage into groups of at most as many runs as `sizes` says for each: the indices of each group, in the
/// order of its first run.
///
/// # Errors
/// When a run cannot be serialised, or its protocol has no task.
pub fn group_indices(runs: &[Run], sizes: &[usize]) -> Result<Vec<Vec<usize>>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut open: HashMap<String, usize> = HashMap::new();
    let mut last: Vec<(Run, String)> = Vec::new();
    for (index, (run, &size)) in runs.iter().zip(sizes).enumerate() {
        // Hashing takes longer than comparing, and runs of one group come close after each other.
        let shared = shared_settings(run)?;
        let known = last.iter().rev().take(LOOKED_BACK).find(|(other, _)| *other == shared);
        let key = match known {
            Some((_, key)) => key.clone(),
            None => {
                let key = canonical_hash(&serde_json::to_value(&shared)?);
                last.push((shared, key.clone()));
                key
            }
        };
        let most = if run.is_trained_alone() { 1 } else { size.max(1) };
        match open.get(&key).map(|&group| &mut groups[group]) {
            Some(group) if group.len() < most => group.push(index),
            _ => {
                open.insert(key, groups.len());
                groups.push(vec![index]);
            }
        }
    }
    Ok(groups)
}

/// Everything that the runs of a group have in common.
fn shared_settings(run: &Run) -> Result<Run> {
    let task = run.protocol.task().map_err(anyhow::Error::msg)?;
    // A model that is not trained takes no steps.
    let seed = if task.steps_depend_on_seed() && run.method != UNTRAINED { run.seed } else { 0 };
    Ok(Run { seed, learning_rate: 0.0, chosen_from: Vec::new(), ..run.clone() })
}
