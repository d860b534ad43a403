//! Resolves an experiment into runs, before anything runs.
//!
//! A plan has two stages. The runs of the first select settings on `val`; the runs of the second, whose settings are
//! known once the first is done, make up the table. If every setting is fixed, the first stage is empty. Missing data
//! or weights are reported here, with the reason, and not after an hour of training.

mod describe;
pub mod device_memory;
pub mod estimate;
mod features;
pub mod fitting;
mod grouping;
mod missing;
mod parameters;
mod runs;
pub mod time;
pub mod tuning;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use report::load::plans::{Place, PlannedRun, RunPlan};
use san_core::methods;
use serde_json::{Map, Value};

use crate::config::Selection;
use crate::config::experiment::{Experiment, MethodSpec, Profile};
use crate::error::RunError;
use crate::models::{BaseModel, NamedArchitecture, SavedAdapter, place};
use crate::plan::fitting::Needs;
pub use crate::plan::missing::Missing;
use crate::plan::tuning::{ChosenRuns, FinalRun, choose_all};
use crate::resources::Resources;
use crate::store::Store;
use crate::tasks::{DataSizes, Run, SetRow, Trial, Unit};

/// A resolved experiment.
#[derive(Debug)]
pub struct Plan {
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the suite.
    pub suite: String,
    /// Name of the profile.
    pub profile: String,
    /// Runs that select settings.
    pub tune: Vec<Run>,
    /// Runs that make up the table.
    pub finals: Vec<FinalRun>,
    /// One row per set: name, numbers of samples, classes, whose split it is.
    sets: Vec<[String; 5]>,
    /// One row per method: label, number of settings, trained parameters for each backbone.
    methods: Vec<Vec<String>>,
    backbones: Vec<String>,
    /// The backbones whose architecture is known, by name.
    models: BTreeMap<String, NamedArchitecture>,
    needs: Needs,
    /// Number of parameters of each backbone.
    sizes: BTreeMap<String, i64>,
    /// Pairs of a tower and a language model whose projector was never trained.
    unaligned: Vec<String>,
    seeds: usize,
    /// The input of each backbone whose experiment leaves it to the model, as text.
    inputs: Vec<(String, String)>,
    /// Settings of single methods, sets and backbones, as text.
    overrides: Vec<String>,
    /// The sizes of its sets, published ones where the data are missing.
    data_sizes: DataSizes,
    /// Whether all data and weights are there.
    is_complete: bool,
    /// Data and protocol: what distinguishes the table of these runs from others of the same store.
    pub settings: Value,
}

/// As much of a plan as its data and weights allow, and what is missing.
#[derive(Debug)]
pub struct Survey {
    /// All runs. What is missing has no checksum, so that none of the runs that need it has its final name.
    pub plan: Plan,
    /// What is missing.
    pub missing: Missing,
}

impl Survey {
    /// The plan, if nothing is missing.
    ///
    /// # Errors
    /// With the names of everything that is missing.
    pub fn complete(self) -> Result<Plan> {
        let Self { plan, missing } = self;
        if missing.is_empty() {
            return Ok(plan);
        }
        Err(missing.refusal(&format!("san plan {} --profile {}", plan.experiment, plan.profile)).into())
    }
}

impl Plan {
    /// Resolves a profile, `embedded` or the only one if none is named, as [`Plan::survey`].
    ///
    /// # Errors
    /// As for [`Plan::survey`]; with the names of everything that is missing.
    pub fn resolve(
        experiment: &Experiment,
        profile: Option<&str>,
        selection: &Selection,
        resources: &mut Resources,
        path: &Path,
        check_samples: bool,
    ) -> Result<Self> {
        Self::survey(experiment, profile, selection, resources, path, check_samples)?.complete()
    }

    /// Resolves as much of a profile as is there: opens every set and backbone that it names and looks for the others.
    /// With `check_samples`, if nothing is missing, every image on disk is decoded once, so that a corrupt one is found
    /// now.
    ///
    /// # Errors
    /// For the first thing that is unknown or does not fit; if nothing is missing, also for the first one that is wrong.
    pub fn survey(
        experiment: &Experiment,
        profile_name: Option<&str>,
        selection: &Selection,
        resources: &mut Resources,
        path: &Path,
        check_samples: bool,
    ) -> Result<Survey> {
        let wrong = |reason: String| RunError::Experiment { path: path.into(), reason };
        let (profile_name, profile) = experiment.profile(profile_name).map_err(wrong)?;
        let mut profile = selection.apply(profile, &experiment.suite).map_err(wrong)?;
        let mut missing = Missing::of(&profile, resources)?;
        // Sets are shown, and their images checked, as the first model takes them.
        let first = &profile.backbones[0].clone();
        let protocol = profile.protocol.with_input(|| resources.models.input(first))?;
        let task = protocol.task().map_err(wrong)?;
        for spec in profile.methods.iter_mut().filter(|spec| spec.adapter.is_some()) {
            if let Some(base) = parameters::model(task, first, &protocol, &mut missing, resources)? {
                take_options(spec, &base)?;
            }
        }
        let mut plan = Self {
            experiment: experiment.name.clone(),
            suite: experiment.suite.clone(),
            profile: profile_name.clone(),
            tune: Vec::new(),
            finals: Vec::new(),
            sets: Vec::new(),
            methods: profile.methods.iter().map(|spec| vec![spec.method.clone(), String::new()]).collect(),
            backbones: profile.backbones.clone(),
            models: BTreeMap::new(),
            needs: Needs::default(),
            sizes: BTreeMap::new(),
            unaligned: Vec::new(),
            seeds: profile.seeds.len(),
            inputs: Vec::new(),
            overrides: profile.overrides_in_words(),
            settings: settings(&profile),
            data_sizes: DataSizes::default(),
            is_complete: missing.is_empty(),
        };
        let units = task.units(&experiment.suite, &profile.sets);
        for backbone in &profile.backbones {
            if !profile.protocol.gives_input() {
                let input = resources.models.input(backbone)?;
                plan.inputs.push((backbone.clone(), input.to_string()));
            }
            plan.count_parameters(&profile, &units, backbone, &mut missing, resources)?;
            if let Ok(model) = resources.models.architecture(backbone) {
                plan.models.insert(backbone.clone(), model);
            }
            let aligned = resources.models.projector_file(backbone).is_ok_and(|path| path.is_file());
            if backbone.contains('+') && !aligned {
                plan.unaligned.push(backbone.clone());
            }
        }
        let mut trials = Vec::new();
        for unit in &units {
            plan.add_unit(&profile, unit, &mut trials, &mut missing, resources)?;
            let source = missing.available(&profile.data);
            let unopened = source.is_none();
            let (absent, present): (Vec<_>, Vec<_>) =
                unit.names().into_iter().partition(|name| missing.lacks_data(name));
            if let Some(source) = source.filter(|_| !present.is_empty()) {
                let unit = Unit {
                    sets: unit.sets.iter().filter(|name| present.contains(name)).cloned().collect(),
                    ..unit.clone()
                };
                if let Some(data) = missing.or_list(task.describe(&unit, &source, &mut resources.data))? {
                    let sizes = unit.names().into_iter().cloned().zip(data.sets.iter().map(|row| row.counts));
                    plan.data_sizes.sets.extend(sizes);
                    plan.data_sizes.mixture = data.mixture;
                    plan.sets.extend(data.sets.iter().map(SetRow::cells));
                }
            }
            for name in absent.iter().chain(present.iter().filter(|_| unopened)) {
                plan.data_sizes.sets.extend(missing::published_size(&profile.data, name));
            }
            plan.data_sizes.mixture += missing.published_mixture(&profile.data);
            plan.sets.extend(absent.into_iter().map(|name| describe::missing_row(name)));
            if check_samples && missing.is_empty() {
                task.check_samples(unit, &profile.data, &mut resources.data)?;
            }
        }
        plan.refuse_duplicates().map_err(wrong)?;
        Ok(Survey { plan, missing })
    }

    /// Rejects two runs with the same place in the table: a set, backbone, seed or method that is listed twice.
    fn refuse_duplicates(&self) -> Result<(), String> {
        let mut places = BTreeSet::new();
        for FinalRun { run, .. } in &self.finals {
            let label = run.row_label().map_err(|error| error.to_string())?;
            let place = format!(
                "set {}, backbone {}, method {label}, seed {}",
                run.set,
                run.backbone_label(),
                run.seed
            );
            if places.contains(&place) {
                return Err(format!("two runs would fill the same place in the table: {place}"));
            }
            places.insert(place);
        }
        Ok(())
    }

    /// The runs of the table, if their settings are known.
    fn chosen(&self, store: &Store) -> Option<Vec<Run>> {
        // The names of thousands of runs take a second.
        if !self.tune.is_empty() && !store.folder.is_dir() {
            return None;
        }
        let chosen = self.final_runs(store).ok().filter(|chosen| chosen.untuned.is_empty());
        chosen.map(|chosen| chosen.runs)
    }

    /// Which of some runs are done.
    fn are_done(&self, runs: &[Run], store: &Store) -> Vec<bool> {
        let some = store.folder.is_dir();
        let is_done = |run: &Run| some && run.name().is_ok_and(|name| store.is_done(&name));
        runs.iter().map(is_done).collect()
    }

    /// The runs of the table, with the settings that the first stage selected.
    ///
    /// # Errors
    /// When a record of the first stage is corrupt.
    pub fn final_runs(&self, store: &Store) -> Result<ChosenRuns> {
        choose_all(&self.tune, &self.finals, store)
    }
}

/// Gives a method that starts from a saved adapter the adapter's options.
fn take_options(spec: &mut MethodSpec, base: &BaseModel) -> Result<()> {
    let Some(path) = &spec.adapter else { return Ok(()) };
    let saved = SavedAdapter::read(Path::new(path), base)?;
    let other = |reason: String| san_core::Error::Malformed { path: path.into(), reason };
    if saved.method != spec.method {
        let found = saved.method()?.label()?;
        return Err(
            other(format!("it is {found}, and the experiment has the method `{}`", spec.method)).into()
        );
    }
    // In the form in which the adapter has them, `2` as `2.0`.
    let given = methods::find(&spec.method, spec.options.clone())?.options()?;
    for name in spec.options.keys() {
        let (found, given) = (saved.options.get(name), given.get(name));
        if found != given {
            let written = |value: Option<&Value>| value.map_or("absent".into(), Value::to_string);
            let (found, given) = (written(found), written(given));
            return Err(other(format!("its `{name}` is {found}, and the experiment has {given}")).into());
        }
    }
    spec.options = saved.options;
    Ok(())
}

/// What all runs of a profile's table share, except for what is tuned or a method's own.
fn settings(profile: &Profile) -> Value {
    let mut settings = serde_json::json!({"data": &profile.data, "protocol": &profile.protocol});
    for (name, own) in [("for_sets", &profile.for_sets), ("for_backbones", &profile.for_backbones)] {
        if !own.is_empty() {
            settings[name] = serde_json::json!(own);
        }
    }
    settings
}

/// The runs of a table, with the names from their plan, and why some of them were left out.
///
/// # Errors
/// When a method or an option is unknown.
pub fn run_plan(settings: &Value, runs: &[Run], left_out: &[(Run, String)]) -> Result<RunPlan> {
    let left_out: BTreeMap<String, &String> =
        left_out.iter().map(|(run, reason)| Ok((run.name()?, reason))).collect::<Result<_>>()?;
    let planned = |run: &Run| {
        let name = run.name()?;
        Ok(PlannedRun {
            does_not_fit: left_out.get(&name).map(ToString::to_string),
            name,
            place: Place {
                backbone: run.backbone_label(),
                label: run.row_label()?,
                dataset: run.set_label(),
                seed: run.seed,
            },
        })
    };
    let runs = runs.iter().map(planned).collect::<Result<_>>()?;
    Ok(RunPlan { settings: settings.clone(), runs })
}

/// The options of a trial with the method's defaults filled in, so that the hash does not depend on which of them the
/// file spells out.
fn resolved_options(spec: &MethodSpec, trial: &Trial) -> Result<Map<String, Value>> {
    let given = spec.options.clone().into_iter().chain(trial.options.clone()).collect();
    Ok(methods::find(&spec.method, given)?.options()?)
}

/// The name of a row whose options are tuned separately for each set, or that starts from a saved adapter.
fn row(spec: &MethodSpec) -> Result<Option<String>> {
    let searched = spec.searched_options();
    if searched.is_empty() && spec.adapter.is_none() {
        return Ok(None);
    }
    let mut label = methods::find(&spec.method, spec.options.clone())?.label()?;
    if !searched.is_empty() {
        label += &format!(", tuned {}", searched.join(", "));
    }
    if let Some(adapter) = &spec.adapter {
        label += &format!(", from {}", place::label(adapter));
    }
    Ok(Some(label))
}
