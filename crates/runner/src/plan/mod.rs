//! From an experiment to cells, before anything runs.
//!
//! A plan has two stages. The cells of the first choose learning rates on `val`; the cells of the
//! second, whose rates are known once the first is done, fill the table. Where every rate is fixed
//! the first stage is empty. What is missing is found here, with its reason, not after an hour.

pub mod cell;
mod describe;
mod estimate;
pub mod tuning;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use data_loaders::text::suite_checksum;
use data_loaders::{DatasetEntry, ImageProtocol, Split, SplitCounts, dataset};
use report::load::plans::{Place, PlannedRun, RunPlan};
use report::record::Stage;
use san_core::methods;
use san_core::spec::trainable::TrainableSpec;
use serde_json::{Map, Value};

use crate::config::Selection;
use crate::config::experiment::{DataSource, Experiment, Input, MethodSpec, Profile};
use crate::config::search::Trial;
use crate::error::RunError;
use crate::plan::cell::Cell;
use crate::plan::tuning::{FinalCell, choose_all};
use crate::resources::context::Context;
use crate::store::Store;

/// A resolved experiment.
#[derive(Debug)]
pub struct Plan {
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the suite.
    pub suite: String,
    /// Name of the profile.
    pub profile: String,
    /// Cells that choose learning rates.
    pub tune: Vec<Cell>,
    /// Cells of the table.
    pub finals: Vec<FinalCell>,
    /// One row a set: name, images to train on, to test on, classes.
    sets: Vec<[String; 4]>,
    /// One row a method: label, trained parameters for each backbone.
    methods: Vec<Vec<String>>,
    backbones: Vec<String>,
    /// Pairs of a tower and a language model that no projector was aligned for.
    strangers: Vec<String>,
    seeds: usize,
    /// Data and protocol: what tells the table of these cells from another one of the same store.
    pub settings: Value,
}

impl Plan {
    /// Resolves a profile; opens every set and backbone that it names. With `check_images` every image on disk
    /// is decoded once, so that a broken one is found now.
    ///
    /// # Errors
    /// For the first thing that is unknown, missing, or does not fit.
    pub fn resolve(
        experiment: &Experiment,
        profile_name: &str,
        selection: &Selection,
        context: &mut Context,
        path: &Path,
        check_images: bool,
    ) -> Result<Self> {
        let wrong = |reason: String| RunError::Experiment { path: path.into(), reason };
        let known = || experiment.profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let profile = experiment
            .profiles
            .get(profile_name)
            .ok_or_else(|| wrong(format!("there is no profile `{profile_name}`; it has {}", known())))?;
        let profile = selection.apply(profile).map_err(wrong)?;
        let mut plan = Self {
            experiment: experiment.name.clone(),
            suite: experiment.suite.clone(),
            profile: profile_name.to_owned(),
            tune: Vec::new(),
            finals: Vec::new(),
            sets: Vec::new(),
            methods: profile.methods.iter().map(|spec| vec![spec.method.clone(), String::new()]).collect(),
            backbones: profile.backbones.clone(),
            strangers: Vec::new(),
            seeds: profile.seeds.len(),
            settings: serde_json::json!({"data": &profile.data, "protocol": &profile.protocol}),
        };
        for backbone in &profile.backbones {
            plan.count_parameters(&profile, backbone, context)?;
            let aligned = context.projector_file(backbone).is_ok_and(|path| path.is_file());
            if backbone.contains('+') && !aligned {
                plan.strangers.push(backbone.clone());
            }
        }
        match &profile.protocol.input {
            Input::Image(image) => {
                for set in &profile.sets {
                    plan.add_set(&profile, image, dataset(set)?, context)?;
                    if check_images {
                        context.set(set, &profile.data, image.image_size)?.check_images()?;
                    }
                }
            }
            Input::Text(_) => {
                let sets = context.texts(&profile.sets, &profile.data)?;
                for set in &sets {
                    let classes = set.entry().classes.to_string();
                    plan.sets.push(set_row(set.name(), set.counts(), classes));
                }
                plan.add_mixture(&profile, &suite_checksum(&sets), context)?;
            }
            Input::Questions(questions) => {
                let image_size = questions.picture.image_size;
                let suite = context.questions(&profile.sets, &profile.data, image_size)?;
                let rows = suite.sets().iter().map(|set| set_row(set.name(), set.counts(), "-".into()));
                plan.sets.extend(rows);
                plan.add_mixture(&profile, suite.checksum(), context)?;
            }
        }
        plan.refuse_twins().map_err(wrong)?;
        Ok(plan)
    }

    /// Two cells with one place in the table: a set, backbone, seed or method that is named twice.
    fn refuse_twins(&self) -> Result<(), String> {
        let mut places = BTreeSet::new();
        for FinalCell { cell, .. } in &self.finals {
            let label = cell.row_label().map_err(|error| error.to_string())?;
            let place =
                format!("set {}, backbone {}, method {label}, seed {}", cell.set, cell.backbone, cell.seed);
            if places.contains(&place) {
                return Err(format!("two cells have one place in the table: {place}"));
            }
            places.insert(place);
        }
        Ok(())
    }

    fn count_parameters(&mut self, profile: &Profile, backbone: &str, context: &mut Context) -> Result<()> {
        let layout = match &profile.protocol.input {
            Input::Image(image) => context.backbone(backbone, image.image_size)?.layout.clone(),
            input @ (Input::Text(_) | Input::Questions(_)) => {
                context.language(backbone, input)?.layout.clone()
            }
        };
        for (spec, columns) in profile.methods.iter().zip(&mut self.methods) {
            let trials = spec.trials(&profile.protocol).map_err(anyhow::Error::msg)?;
            let mut counts = BTreeSet::new();
            for trial in &trials {
                let method = methods::find(&spec.method, resolved_options(spec, trial)?)?;
                let modules_to_save = profile.protocol.modules_to_save(&spec.method);
                let specs = methods::trainables_with(&*method, &modules_to_save, &layout)?;
                let trained: i64 = specs.iter().map(TrainableSpec::count).sum();
                counts.insert(trained);
            }
            let label = methods::find(&spec.method, spec.options.clone())?.label();
            columns[0] = row(spec)?.unwrap_or(label);
            columns[1] = if trials.len() > 1 { trials.len().to_string() } else { "fixed".into() };
            let counts: Vec<String> = counts.iter().map(i64::to_string).collect();
            columns.push(counts.join(" or "));
        }
        Ok(())
    }

    /// One model learns from all sets, and is read on each.
    fn add_mixture(&mut self, profile: &Profile, data_checksum: &str, context: &mut Context) -> Result<()> {
        for backbone in &profile.backbones {
            let weights_checksum = context.language(backbone, &profile.protocol.input)?.checksum.clone();
            for spec in &profile.methods {
                let cell = self.base(profile, spec, &self.suite, data_checksum, backbone, &weights_checksum);
                self.add_cells(&Cell { sets: profile.sets.clone(), ..cell }, spec, profile)?;
            }
        }
        Ok(())
    }

    /// A cell of a method, before its options, rate and seed are filled in.
    fn base(
        &self,
        profile: &Profile,
        spec: &MethodSpec,
        set: &str,
        data_checksum: &str,
        backbone: &str,
        weights_checksum: &str,
    ) -> Cell {
        Cell {
            experiment: self.experiment.clone(),
            suite: self.suite.clone(),
            profile: self.profile.clone(),
            stage: Stage::Final,
            set: set.to_owned(),
            sets: Vec::new(),
            data: profile.data.clone(),
            data_checksum: data_checksum.to_owned(),
            backbone: backbone.to_owned(),
            weights_checksum: weights_checksum.to_owned(),
            method: spec.method.clone(),
            options: Map::new(),
            learning_rate: 0.0,
            chosen_from: Vec::new(),
            searched: Vec::new(),
            row: None,
            seed: profile.seeds[0],
            protocol: profile.protocol.clone(),
        }
    }

    fn add_set(
        &mut self,
        profile: &Profile,
        image: &ImageProtocol,
        entry: &DatasetEntry,
        context: &mut Context,
    ) -> Result<()> {
        let size = image.image_size;
        let set = context.set(&entry.name, &profile.data, size)?;
        let data_checksum = context.checksum(&set, size);
        for backbone in &profile.backbones {
            let weights_checksum = context.backbone(backbone, size)?.checksum.clone();
            for spec in &profile.methods {
                let base = self.base(profile, spec, &entry.name, &data_checksum, backbone, &weights_checksum);
                self.add_cells(&base, spec, profile)?;
            }
        }
        let label = match profile.data {
            DataSource::Drawn(_) => format!("mini/{}", entry.name),
            _ => entry.name.clone(),
        };
        let count = |split| set.len(split).to_string();
        self.sets.push([label, count(Split::TrainVal), count(Split::Test), set.classes().to_string()]);
        Ok(())
    }

    fn add_cells(&mut self, base: &Cell, spec: &MethodSpec, profile: &Profile) -> Result<()> {
        let trials = spec.trials(&profile.protocol).map_err(anyhow::Error::msg)?;
        let mut cells = Vec::with_capacity(trials.len());
        for trial in &trials {
            cells.push(Cell { options: resolved_options(spec, trial)?, ..base.with(trial) });
        }
        let tuned = trials.len() > 1;
        let first = self.tune.len();
        if tuned {
            self.tune.extend(cells.iter().map(|cell| Cell { stage: Stage::Tune, ..cell.clone() }));
        }
        let mut cell = cells.swap_remove(0);
        cell.row = row(spec)?;
        match &spec.search {
            _ if !tuned => {}
            None => cell.chosen_from = trials.iter().map(|trial| trial.learning_rate).collect(),
            Some(_) => cell.searched = trials,
        }
        for &seed in &profile.seeds {
            let candidates = first..self.tune.len();
            self.finals.push(FinalCell { cell: Cell { seed, ..cell.clone() }, candidates });
        }
        Ok(())
    }

    /// The cells of the table, with the rates that the first stage chose.
    ///
    /// # Errors
    /// When a record of the first stage is missing or broken.
    pub fn final_cells(&self, store: &Store) -> Result<Vec<Cell>> {
        choose_all(&self.tune, &self.finals, store)
    }
}

/// The cells of a table as its plan names them.
///
/// # Errors
/// When a method or an option is unknown.
pub fn run_plan(settings: &Value, cells: &[Cell]) -> Result<RunPlan, san_core::Error> {
    let planned = |cell: &Cell| {
        Ok(PlannedRun {
            name: cell.name(),
            place: Place {
                backbone: cell.backbone.clone(),
                label: cell.row_label()?,
                dataset: cell.set_label(),
                seed: cell.seed,
            },
        })
    };
    let runs = cells.iter().map(planned).collect::<Result<_, san_core::Error>>()?;
    Ok(RunPlan { settings: settings.clone(), runs })
}

/// A set for a reader: its name, what is trained on, what is tested on, its classes.
fn set_row(name: &str, counts: SplitCounts, classes: String) -> [String; 4] {
    [name.to_owned(), (counts.train + counts.val).to_string(), counts.test.to_string(), classes]
}

/// The options of a trial with the method's defaults filled in, so that the hash does not depend on which
/// of them the file spells out.
fn resolved_options(spec: &MethodSpec, trial: &Trial) -> Result<Map<String, Value>> {
    let given = spec.options.clone().into_iter().chain(trial.options.clone()).collect();
    let options = methods::find(&spec.method, given)?.options();
    Ok(options.as_object().cloned().unwrap_or_default())
}

/// The name of a row whose options are tuned for each set apart.
fn row(spec: &MethodSpec) -> Result<Option<String>> {
    let searched = spec.searched_options();
    if searched.is_empty() {
        return Ok(None);
    }
    let label = methods::find(&spec.method, spec.options.clone())?.label();
    Ok(Some(format!("{label}, tuned {}", searched.join(", "))))
}
