//! Whether the runs of a plan fit into the memory of a device, and how: how many are trained together, in which
//! micro-batches, and whether activations are recomputed.
//!
//! The choice follows from the plan and the device's memory alone, so that an interrupted sweep ends with the same bytes.
//! It is not part of a run's name: it does not change what is computed, up to rounding.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use data_loaders::dataset;
use serde::{Deserialize, Serialize};

use crate::messages::size_in_words;
use crate::plan::Plan;
use crate::plan::device_memory::DeviceMemory;
use crate::tasks::{GroupShape, Memory, Run, RunGroup, group_indices};

/// Number of runs before one among which one like it is looked for.
const LOOKED_BACK: usize = 8;

/// How a run fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The most runs that are trained together.
    pub together: usize,
    /// How a step is computed, if not as the protocol says.
    pub memory: Option<Memory>,
    /// What a group needs, bytes; `None` if the model is not known.
    pub need: Option<u64>,
    /// Whether the device has as much.
    pub fits: bool,
}

/// Runs in groups that fit, and those that do not.
#[derive(Debug)]
pub struct Grouped {
    /// Groups that fit.
    pub groups: Vec<RunGroup>,
    /// Runs that do not fit, and why.
    pub misfits: Vec<(Run, String)>,
    /// What the largest of the groups needs, bytes.
    pub need: u64,
}

/// A row of the table on a backbone that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The row's label.
    pub method: String,
    /// The backbone's label.
    pub backbone: String,
    /// Why, with the numbers.
    pub reason: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} on {}: {}", self.method, self.backbone, self.reason)
    }
}

/// Groups by the positions of their runs, with how their steps are computed if that was chosen for the device.
pub(crate) type Positions = Vec<(Vec<usize>, Option<Memory>)>;

/// The largest need, and the run that has it, by row of the table and backbone.
type MostNeeded = BTreeMap<(String, String), (Fit, Run)>;

/// What the groups of a plan need, each computed once.
#[derive(Debug, Default)]
pub(super) struct Needs {
    known: RefCell<BTreeMap<String, Option<u64>>>,
    /// The set of the plan with the most classes, which stands for all: only the size of the head depends on them.
    widest_set: OnceCell<Option<String>>,
}

impl Plan {
    /// What a group of runs like this one needs, bytes; `None` if the model's architecture is not known.
    fn need(&self, run: &Run, shape: GroupShape) -> Result<Option<u64>> {
        let Some(model) = self.models.get(&run.backbone) else { return Ok(None) };
        let set = self.needs.widest_set.get_or_init(|| self.widest_set()).as_ref().unwrap_or(&run.set);
        let key = serde_json::to_string(&(
            &run.backbone,
            &run.method,
            &run.options,
            &run.protocol,
            (shape.stack, shape.memory, shape.on_gpu),
        ))?;
        if let Some(known) = self.needs.known.borrow().get(&key) {
            return Ok(*known);
        }
        let task = run.protocol.task().map_err(anyhow::Error::msg)?;
        let need = task.need(&Run { set: set.clone(), ..run.clone() }, model, shape)?;
        let bytes = u64::try_from(need.total()).ok();
        self.needs.known.borrow_mut().insert(key, bytes);
        Ok(bytes)
    }

    fn widest_set(&self) -> Option<String> {
        let sets: BTreeSet<&String> = self.finals.iter().map(|row| &row.run.set).collect();
        // A set of the user's own may have any number.
        let classes = |set: &&String| dataset(set).map_or(u32::MAX, |entry| entry.classes);
        sets.into_iter().max_by_key(classes).cloned()
    }

    /// How a run fits into a device, in groups of at most `most` runs: as many as fit with whole batches; where one does
    /// not, the fastest way of computing its steps in less memory.
    ///
    /// # Errors
    /// When the run's method is unknown.
    pub fn fit(&self, run: &Run, most: usize, device: &DeviceMemory) -> Result<Fit> {
        let task = run.protocol.task().map_err(anyhow::Error::msg)?;
        let choices = task.step_choices(run.protocol.batch_size);
        let shape = |stack, memory| GroupShape { stack, memory, on_gpu: device.on_gpu };
        let fastest = choices.first().copied().unwrap_or_default();
        let mut least = None;
        let together = (1..=most.max(1)).rev().map(|stack| (stack, fastest));
        let alone = choices.iter().skip(1).map(|&memory| (1, memory));
        for (stack, memory) in together.chain(alone) {
            let need = self.need(run, shape(stack, memory))?;
            let chosen =
                Fit { together: stack, memory: (memory != fastest).then_some(memory), need, fits: true };
            if need.is_none_or(|need| device.holds(need)) {
                return Ok(chosen);
            }
            if least.is_none_or(|least: Fit| need < least.need) {
                least = Some(Fit { fits: false, ..chosen });
            }
        }
        Ok(least.unwrap_or(Fit { together: 1, memory: None, need: None, fits: true }))
    }

    /// Packs runs of this plan into groups of at most `size` runs, or of the usual number, that fit into the device.
    ///
    /// # Errors
    /// When a run's method is unknown, or it cannot be serialised.
    pub fn groups(&self, runs: &[Run], size: Option<usize>, device: &DeviceMemory) -> Result<Grouped> {
        grouped(runs, &self.fits(runs, size, device)?, device)
    }

    /// The same by the positions of their runs; those that do not fit are in none.
    pub(crate) fn group_positions(
        &self,
        runs: &[Run],
        size: Option<usize>,
        device: &DeviceMemory,
    ) -> Result<Positions> {
        positions(runs, &self.fits(runs, size, device)?)
    }

    /// How each of these runs fits.
    pub(super) fn fits(&self, runs: &[Run], size: Option<usize>, device: &DeviceMemory) -> Result<Vec<Fit>> {
        let is_alike = |one: &Run, other: &Run| {
            (&one.backbone, &one.method, &one.set, &one.options, &one.protocol)
                == (&other.backbone, &other.method, &other.set, &other.options, &other.protocol)
        };
        let mut fits: Vec<Fit> = Vec::with_capacity(runs.len());
        for (index, run) in runs.iter().enumerate() {
            // Runs that differ in rate and seed come one after the other.
            let alike = (index.saturating_sub(LOOKED_BACK)..index).rev();
            let known = alike.map(|place| (place, &runs[place])).find(|(_, other)| is_alike(other, run));
            fits.push(match known {
                Some((place, _)) => fits[place],
                None => self.fit(run, self.group_size(run, size, device.on_gpu)?, device)?,
            });
        }
        Ok(fits)
    }

    /// What of these runs does not fit, once for each method and backbone.
    pub(crate) fn left_out(
        &self,
        runs: &[Run],
        size: Option<usize>,
        device: &DeviceMemory,
    ) -> Result<Vec<LeftOut>> {
        let mut all: Vec<LeftOut> = Vec::new();
        for (run, reason) in self.groups(runs, size, device)?.misfits {
            let one = LeftOut { method: run.row_label()?, backbone: run.backbone_label(), reason };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        Ok(all)
    }

    /// The most runs of a group, before memory is considered.
    fn group_size(&self, run: &Run, size: Option<usize>, on_gpu: bool) -> Result<usize> {
        let size = size.map_or_else(|| self.usual_group_size(run, on_gpu), Ok)?;
        Ok(if run.is_trained_alone() { 1 } else { size })
    }

    /// What each method needs on each backbone, the most over its sets and seeds, and how it fits: by backbone and row of
    /// the table.
    ///
    /// # Errors
    /// As for [`Plan::fit`].
    pub fn memory(
        &self,
        size: Option<usize>,
        device: &DeviceMemory,
    ) -> Result<BTreeMap<String, BTreeMap<String, Fit>>> {
        let finals: Vec<Run> = self.finals.iter().map(|row| row.run.clone()).collect();
        let mut all: BTreeMap<String, BTreeMap<String, Fit>> = BTreeMap::new();
        for ((label, backbone), (fit, _)) in self.most_needed(&self.fits(&finals, size, device)?)?.1 {
            all.entry(backbone).or_default().insert(label, fit);
        }
        Ok(all)
    }

    /// The rows of a table of [`Plan::memory`]; `fits` are those of the runs of the table.
    ///
    /// # Errors
    /// When a run's method is unknown.
    pub(super) fn memory_rows(&self, fits: &[Fit]) -> Result<Vec<Vec<String>>> {
        let (labels, most) = self.most_needed(fits)?;
        let row = |label: String| {
            let cell = |backbone: &String| match most.get(&(label.clone(), backbone.clone())) {
                Some((fit, run)) => fit.in_words(run),
                None => "-".into(),
            };
            let cells: Vec<String> = self.backbones.iter().map(cell).collect();
            [vec![label.clone()], cells].concat()
        };
        Ok(labels.into_iter().map(row).collect())
    }

    /// The rows of the table in their order, and the run with the largest need for each of them and each backbone.
    fn most_needed(&self, fits: &[Fit]) -> Result<(Vec<String>, MostNeeded)> {
        let mut labels: Vec<String> = Vec::new();
        let mut most = MostNeeded::new();
        for (row, &fit) in self.finals.iter().zip(fits) {
            let run = &row.run;
            let label = run.row_label()?;
            if !labels.contains(&label) {
                labels.push(label.clone());
            }
            let key = (label, run.backbone.clone());
            if most.get(&key).is_none_or(|(before, _)| (!fit.fits, fit.need) > (!before.fits, before.need)) {
                most.insert(key, (fit, run.clone()));
            }
        }
        Ok((labels, most))
    }
}

impl Fit {
    /// For example `1.9 GB (4 x 64)`: four runs, each with 64 examples in a batch.
    fn in_words(&self, run: &Run) -> String {
        let Some(need) = self.need else { return "-".into() };
        let size = run.protocol.batch_size;
        let fastest = run.protocol.task().ok().and_then(|task| task.step_choices(size).first().copied());
        let batch = self.memory.or(fastest).unwrap_or_default().in_words(size);
        let runs = if self.together > 1 { format!("{} runs x ", self.together) } else { String::new() };
        let size = size_in_words(need);
        if self.fits {
            format!("{size} ({runs}{batch})")
        } else {
            format!("does not fit: {size} ({runs}{batch})")
        }
    }
}

/// Runs in groups that fit, given how each of them does.
pub(super) fn grouped(runs: &[Run], fits: &[Fit], device: &DeviceMemory) -> Result<Grouped> {
    let (mut misfits, mut need) = (Vec::new(), 0);
    for (run, fit) in runs.iter().zip(fits) {
        if fit.fits {
            need = need.max(fit.need.unwrap_or(0));
        } else {
            misfits.push((run.clone(), does_not_fit(fit, device)));
        }
    }
    let group = |(members, memory): (Vec<usize>, Option<Memory>)| -> Result<RunGroup> {
        let runs = members.into_iter().map(|index| runs[index].clone()).collect();
        Ok(RunGroup::new(runs)?.with_memory(memory))
    };
    let groups = positions(runs, fits)?.into_iter().map(group).collect::<Result<_>>()?;
    Ok(Grouped { groups, misfits, need })
}

fn positions(runs: &[Run], fits: &[Fit]) -> Result<Positions> {
    let fitting: Vec<usize> = (0..runs.len()).filter(|&index| fits[index].fits).collect();
    let those: Vec<Run> = fitting.iter().map(|&index| runs[index].clone()).collect();
    let sizes: Vec<usize> = fitting.iter().map(|&index| fits[index].together).collect();
    let original = |group: Vec<usize>| {
        let members: Vec<usize> = group.into_iter().map(|index| fitting[index]).collect();
        let memory = fits[members[0]].memory;
        (members, memory)
    };
    Ok(group_indices(&those, &sizes)?.into_iter().map(original).collect())
}

fn does_not_fit(fit: &Fit, device: &DeviceMemory) -> String {
    let need = size_in_words(fit.need.unwrap_or(0));
    format!("it does not fit: it needs {need}, but {}", device.in_words())
}
