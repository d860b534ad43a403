//! How long a plan takes on given devices, and how much disk its results need, before anything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use comfy_table::{Table, presets};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::cost::calibration::Nearness;
use crate::cost::estimate::{CostModel, GroupCost};
use crate::cost::model::ModelSizes;
use crate::models::place;
use crate::plan::Plan;
use crate::plan::device_memory::DeviceMemory;
use crate::plan::estimate::Durations;
use crate::resources::Resources;
use crate::store::Store;
use crate::tasks::{Amounts, Run};

/// Bytes that a run leaves apart from its adapter: configuration, record, predictions of a small set.
const FILES: f64 = 16e3;
/// Bytes of a step's line in the log.
const LINE: f64 = 110.0;

/// The devices that a plan runs on.
#[derive(Debug)]
pub struct Workers {
    /// How many workers; on GPUs, one for each.
    pub count: u32,
    /// The device of each, and what was measured on it.
    pub costs: CostModel,
    /// The memory of each.
    pub memory: DeviceMemory,
}

/// What an estimate is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Finished runs of the same method on the same backbone.
    FinishedRuns,
    /// A measurement of the same kind.
    Measured,
    /// Finished runs of other methods on the same backbone.
    OtherMethods,
    /// The arithmetic, corrected by measurements of other kinds.
    Scaled,
    /// The built-in model alone.
    BuiltIn,
}

/// The unfinished runs of a method on a backbone.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TimeRow {
    /// How many.
    pub runs: usize,
    /// Seconds of a worker for all of them.
    pub seconds: f64,
}

/// How long the unfinished runs of a plan take, and the disk that they need.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlanTime {
    /// By backbone and row of the table.
    pub rows: BTreeMap<String, BTreeMap<String, TimeRow>>,
    /// Seconds of all workers together.
    pub worker_seconds: f64,
    /// Seconds on the workers, at best: groups are not divided.
    pub wall_seconds: f64,
    /// Number of unfinished runs by what their estimate is based on.
    pub based_on: BTreeMap<Basis, usize>,
    /// Bytes of the results.
    pub result_bytes: f64,
    /// Bytes of the checkpoints of all workers.
    pub checkpoint_bytes: f64,
    /// Why the time of some runs is not known.
    pub unknown: BTreeSet<String>,
}

/// The cost of a group, and what is needed to add it up.
#[derive(Debug, Clone)]
struct Estimated {
    cost: GroupCost,
    trained: f64,
    weight_bytes: f64,
}

/// Estimates the groups of a plan; equal ones once.
pub(crate) struct Estimator<'a> {
    plan: &'a Plan,
    workers: &'a Workers,
    resources: &'a mut Resources,
    known: BTreeMap<String, Result<Estimated, String>>,
    models: BTreeMap<String, ModelSizes>,
}

impl<'a> Estimator<'a> {
    pub(crate) fn new(plan: &'a Plan, workers: &'a Workers, resources: &'a mut Resources) -> Self {
        Self { plan, workers, resources, known: BTreeMap::new(), models: BTreeMap::new() }
    }

    /// The cost of a group; the error says why it is not known.
    fn group(&mut self, runs: &[Run]) -> Result<Estimated, String> {
        let first = &runs[0];
        let described =
            (&first.backbone, &first.method, &first.options, &first.set, first.stage, &first.protocol);
        let key = serde_json::to_string(&(described, runs.len())).map_err(|error| error.to_string())?;
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let result = self.estimate(runs).map_err(|error| format!("{error:#}"));
        self.known.insert(key, result.clone());
        result
    }

    fn estimate(&mut self, runs: &[Run]) -> Result<Estimated> {
        let (first, sizes) = (&runs[0], &self.plan.data_sizes);
        let sets = if first.sets.is_empty() { std::slice::from_ref(&first.set) } else { &first.sets };
        if let Some(set) = sets.iter().find(|set| !sizes.sets.contains_key(*set)) {
            anyhow::bail!("the size of {set} is not known");
        }
        let task = first.protocol.task().map_err(anyhow::Error::msg)?;
        let protocol = &first.protocol;
        let image = protocol.classification.as_ref().and_then(|task| task.image.image_size);
        let described = (&first.backbone, &first.method, &first.options, protocol.precision, image);
        let key = serde_json::to_string(&described)?;
        if !self.models.contains_key(&key) {
            self.models.insert(key.clone(), ModelSizes::of(first, &self.resources.models)?);
        }
        let model = &self.models[&key];
        let open = self.plan.is_complete.then_some(&mut *self.resources);
        let amounts: Amounts = task.amounts(first, sizes, open)?;
        Ok(Estimated {
            cost: self.workers.costs.group(runs, model, &amounts)?,
            trained: model.trained_parameters(),
            weight_bytes: model.weight_bytes(),
        })
    }

    /// The seconds of a task that executes these groups, one after the other, and whether finished runs say so; `None` if
    /// they are not known.
    pub(crate) fn seconds(&mut self, groups: &[Vec<Run>], durations: &Durations<'_>) -> Option<(f64, bool)> {
        let mut all = (0.0, true);
        for runs in groups {
            let (seconds, basis, estimated) = self.with_durations(runs, durations).ok()?;
            all.0 += seconds + estimated.map_or(0.0, |estimated| estimated.cost.once_seconds);
            all.1 &= matches!(basis, Basis::FinishedRuns | Basis::OtherMethods);
        }
        Some(all)
    }

    /// Bytes of the largest model so far.
    pub(crate) fn most_weight_bytes(&self) -> f64 {
        let known = self.known.values().filter_map(|known| known.as_ref().ok());
        known.map(|estimated| estimated.weight_bytes).fold(0.0, f64::max)
    }

    /// Seconds of a group, and what they are based on: finished runs count more than the model.
    fn with_durations(
        &mut self,
        runs: &[Run],
        durations: &Durations<'_>,
    ) -> Result<(f64, Basis, Option<Estimated>), String> {
        let estimated = self.group(runs);
        let finished = |of: &dyn Fn(&Run) -> Option<f64>| runs.iter().map(of).sum::<Option<f64>>();
        if let Some(seconds) = finished(&|run| durations.of_kind(run)) {
            return Ok((seconds, Basis::FinishedRuns, estimated.ok()));
        }
        let is_measured = |one: &Estimated| one.cost.nearness == Nearness::Same;
        if !estimated.as_ref().is_ok_and(is_measured)
            && let Some(seconds) = finished(&|run| durations.of_backbone(run))
        {
            return Ok((seconds, Basis::OtherMethods, estimated.ok()));
        }
        let estimated = estimated?;
        let basis = match estimated.cost.nearness {
            Nearness::Same => Basis::Measured,
            Nearness::SameModel | Nearness::SameTask => Basis::Scaled,
            Nearness::BuiltIn => Basis::BuiltIn,
        };
        Ok((estimated.cost.seconds, basis, Some(estimated)))
    }
}

impl Plan {
    /// How long the runs take that are not done and fit; `group` is as in [`Plan::groups`].
    ///
    /// # Errors
    /// When a run's method is unknown, or it cannot be serialised.
    pub fn time(
        &self,
        store: &Store,
        group: Option<usize>,
        workers: &Workers,
        resources: &mut Resources,
    ) -> Result<PlanTime> {
        let finals = self.chosen(store);
        let finals = finals.unwrap_or_else(|| self.finals.iter().map(|row| row.run.clone()).collect());
        let stages = [&self.tune, &finals].map(|runs| (runs, self.are_done(runs, store)));
        let done = stages.iter().flat_map(|(runs, done)| runs.iter().zip(done));
        let done = done.filter_map(|(run, done)| done.then_some(run));
        let durations = Durations::of(done, store, &workers.costs.device.name);
        let mut estimator = Estimator::new(self, workers, resources);
        let mut time = PlanTime::default();
        for (runs, done) in &stages {
            let groups = self.group_positions(runs, group, &workers.memory)?;
            let open = groups.into_iter().map(|(group, _)| {
                let open = group.iter().filter(|&&run| !done[run]).count();
                (group.into_iter().map(|run| runs[run].clone()).collect(), open)
            });
            let open: Vec<(Vec<Run>, usize)> = open.filter(|(_, open)| *open > 0).collect();
            time.add_stage(&open, &mut estimator, &durations)?;
        }
        Ok(time)
    }
}

impl PlanTime {
    /// Adds the groups of a stage with a run that is not done, and the number of these.
    fn add_stage(
        &mut self,
        groups: &[(Vec<Run>, usize)],
        estimator: &mut Estimator<'_>,
        durations: &Durations<'_>,
    ) -> Result<()> {
        let workers = f64::from(estimator.workers.count.max(1));
        let device = estimator.workers.costs.device.clone();
        let (mut all, mut longest, mut weights, mut checkpoint) = (0.0, 0.0_f64, 0.0_f64, 0.0_f64);
        let mut opened: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for (runs, open) in groups {
            let (first, open) = (&runs[0], *open);
            let row = self.rows.entry(first.backbone.clone()).or_default().entry(first.row_label()?);
            let row = row.or_default();
            row.runs += open;
            let (seconds, basis, estimated) = match estimator.with_durations(runs, durations) {
                Ok(known) => known,
                Err(reason) => {
                    self.unknown.insert(reason);
                    continue;
                }
            };
            *self.based_on.entry(basis).or_default() += open;
            row.seconds += seconds;
            all += seconds;
            longest = longest.max(seconds);
            if let Some(Estimated { cost, trained, weight_bytes }) = estimated {
                weights = weights.max(weight_bytes);
                let once = opened.entry((&first.set, first.protocol.precision.name())).or_default();
                *once = once.max(cost.once_seconds);
                let state = first.protocol.adamw.state;
                let bytes = state.kind().elt_size_in_bytes() as f64;
                checkpoint = checkpoint.max(trained * runs.len() as f64 * bytes * state.tensors());
                self.result_bytes += open as f64 * (trained * bytes + cost.steps * LINE + FILES);
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        // Every worker opens each set, and starts once in a stage.
        let each: f64 = opened.values().sum::<f64>() + device.process_start(weights);
        let used = workers.min(groups.len() as f64);
        self.worker_seconds += all + each * used;
        self.wall_seconds += (all / workers).max(longest) + each;
        self.checkpoint_bytes = self.checkpoint_bytes.max(checkpoint * used);
        Ok(())
    }

    /// The time on the workers; `None` if that of a run is not known, or nothing is left to run.
    pub fn wall_time(&self) -> Option<Duration> {
        let known = self.unknown.is_empty() && self.worker_seconds > 0.0;
        known.then(|| Duration::try_from_secs_f64(self.wall_seconds).ok()).flatten()
    }

    /// Number of runs that are not done.
    pub fn runs(&self) -> usize {
        self.rows.values().flat_map(BTreeMap::values).map(|row| row.runs).sum()
    }

    /// The table of methods and backbones, the sums, what they are based on, and the disk.
    pub fn in_words(&self, workers: &Workers) -> String {
        if self.runs() == 0 {
            return String::new();
        }
        let device = &workers.costs.device;
        let unit = if device.is_gpu { "GPU" } else { "worker" };
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let backbones = self.rows.keys().map(|name| format!("runs and time on {}", place::label(name)));
        table.set_header(std::iter::once("method".to_owned()).chain(backbones));
        let methods: BTreeSet<&String> = self.rows.values().flat_map(BTreeMap::keys).collect();
        for method in methods {
            let cell = |rows: &BTreeMap<String, TimeRow>| {
                rows.get(method)
                    .map_or_else(|| "-".into(), |row| format!("{}, {}", row.runs, in_words(row.seconds)))
            };
            table.add_row(std::iter::once(method.clone()).chain(self.rows.values().map(cell)));
        }
        let all = format!(
            "{} of one {unit} in all, about {} with {} {unit}s{}",
            in_words(self.worker_seconds),
            in_words(self.wall_seconds),
            workers.count,
            if device.is_gpu { format!(" ({})", device.name) } else { String::new() },
        );
        let basis = self.based_on.iter().map(|(basis, runs)| format!("{runs} by {}", basis.in_words()));
        let based_on = basis.collect::<Vec<_>>().join(", ");
        let disk = format!(
            "disk: {} of results, up to {} of checkpoints",
            bytes(self.result_bytes),
            bytes(self.checkpoint_bytes)
        );
        let mut text = format!("{table}\n{all}\nestimated: {based_on}");
        if self.based_on.contains_key(&Basis::BuiltIn) {
            text += &format!(" ({}; --calibrate measures)", device.source);
        }
        text += &format!("\n{disk}\n");
        for reason in &self.unknown {
            text += &format!("without the runs whose time is not known: {reason}\n");
        }
        text
    }
}

impl Basis {
    fn in_words(self) -> &'static str {
        match self {
            Self::FinishedRuns => "finished runs of the same method",
            Self::Measured => "measured steps",
            Self::OtherMethods => "finished runs of other methods",
            Self::Scaled => "measured steps of other methods or models",
            Self::BuiltIn => "the built-in model",
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bytes(number: f64) -> HumanBytes {
    HumanBytes(number as u64)
}

/// A time, `12.3 s`, `4.5 min` or `67.8 h`.
pub fn in_words(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{seconds:.1} s"),
        100.0..6000.0 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
