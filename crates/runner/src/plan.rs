//! From an experiment to cells, before anything runs.
//!
//! A plan has two stages. The cells of the first choose learning rates on `val`; the cells of the
//! second, whose rates are known once the first is done, fill the table. Where every rate is fixed
//! the first stage is empty. What is missing is found here, with its reason, not after an hour.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use comfy_table::{Table, presets};
use data_loaders::{DatasetEntry, ImageProtocol, Split, SplitCounts, dataset};
use indicatif::HumanDuration;
use report::record::{RECORD_FILE, Stage};
use san_core::methods;
use san_core::trainables::TrainableSpec;
use serde_json::{Map, Value};

use crate::cell::Cell;
use crate::context::Context;
use crate::error::RunError;
use crate::estimate::time_left;
use crate::experiment::{DataSource, Experiment, Input, MethodSpec, Profile};
use crate::search::Trial;
use crate::tuning::{FinalCell, choose_all};

/// Restrictions and changes from the command line.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these methods.
    pub methods: Option<Vec<String>>,
    /// Only these sets.
    pub sets: Option<Vec<String>>,
    /// These backbones instead.
    pub backbones: Option<Vec<String>>,
    /// The first so many seeds.
    pub seeds: Option<usize>,
    /// So many epochs instead.
    pub epochs: Option<u64>,
}

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
    seeds: usize,
}

/// Where the cells of an experiment's profile lie.
#[derive(Debug, Clone)]
pub struct Store {
    /// `<results>/runs/<experiment>/<profile>`.
    pub folder: PathBuf,
}

impl Store {
    /// The store of a plan under a results folder.
    pub fn new(results: &Path, experiment: &str, profile: &str) -> Self {
        Self { folder: results.join("runs").join(experiment).join(profile) }
    }

    /// The folder of a cell, there or not.
    pub fn cell(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether a cell is done.
    pub fn is_done(&self, name: &str) -> bool {
        self.cell(name).join(RECORD_FILE).is_file()
    }
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
            seeds: profile.seeds.len(),
        };
        for backbone in &profile.backbones {
            plan.count_parameters(&profile, backbone, context)?;
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
                let mut hasher = blake3::Hasher::new();
                for set in &sets {
                    hasher.update(set.checksum().as_bytes());
                    let classes = set.entry().classes.to_string();
                    plan.sets.push(set_row(set.name(), set.counts(), classes));
                }
                plan.add_mixture(&profile, &hasher.finalize().to_hex(), context)?;
            }
            Input::Questions(questions) => {
                let image_size = questions.picture.image_size;
                let suite = context.questions(&profile.sets, &profile.data, image_size)?;
                let rows = suite.sets().iter().map(|set| set_row(set.name(), set.counts(), "-".into()));
                plan.sets.extend(rows);
                plan.add_mixture(&profile, &suite.checksum(), context)?;
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
                let method = profile.protocol.around(method);
                let trained: i64 = method.trainables(&layout)?.iter().map(TrainableSpec::count).sum();
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

    /// How much there is, how much is done, and how long the rest will take so many workers.
    pub fn summary(&self, store: &Store, workers: u32) -> String {
        let sizes = format!(
            "{} ({}), profile `{}`: {} x {} x {} x {} = {} cells",
            self.experiment,
            self.suite,
            self.profile,
            counted(self.sets.len(), "set"),
            counted(self.backbones.len(), "backbone"),
            counted(self.methods.len(), "method"),
            counted(self.seeds, "seed"),
            self.finals.len(),
        );
        let is_done = |cell: &Cell| store.is_done(&cell.name());
        let tune: Vec<(&Cell, bool)> = self.tune.iter().map(|cell| (cell, is_done(cell))).collect();
        let tuned = tune.iter().filter(|(_, done)| *done).count();
        let tuning = format!("{} cells choose learning rates on val, {tuned} are done", self.tune.len());
        let chosen = self.final_cells(store).ok();
        let finals: Vec<(&Cell, bool)> = match &chosen {
            Some(cells) => cells.iter().map(|cell| (cell, is_done(cell))).collect(),
            None => self.finals.iter().map(|row| (&row.cell, false)).collect(),
        };
        let done = finals.iter().filter(|(_, done)| *done).count();
        let text = match (tune.is_empty(), &chosen) {
            (true, _) => format!("{sizes}; {done} are done"),
            (false, Some(_)) => format!("{sizes}; {done} are done; {tuning}"),
            (false, None) => format!("{sizes}; before them {tuning}"),
        };
        let all = [tune, finals].concat();
        let left = all.iter().filter(|(_, done)| !done).count();
        match time_left(&all, store, workers) {
            _ if left == 0 => text,
            Some(time) => {
                let workers = counted(workers as usize, "worker");
                format!("{text}\nabout {} for the {left} to come, with {workers}", HumanDuration(time))
            }
            None => format!("{text}\ntime unknown: it is told from cells that were run here, and none was"),
        }
    }

    /// Whether the methods are tuned alike, for a reader.
    fn budget(&self) -> String {
        let budgets: BTreeSet<usize> = self.finals.iter().map(|row| row.cell.budget()).collect();
        match (budgets.first(), budgets.last()) {
            (Some(1), Some(1)) | (None, _) | (_, None) => "nothing is tuned: every setting is fixed".into(),
            (Some(least), Some(most)) if least == most => {
                format!("every method is tuned alike: the best of {most} settings on val, for each set apart")
            }
            (Some(least), Some(most)) => format!("UNEQUAL tuning budgets: {least} to {most} settings"),
        }
    }

    /// What will run, for a reader.
    pub fn describe(&self, store: &Store, workers: u32) -> String {
        let mut text = self.summary(store, workers);
        text.push('\n');
        let mut sets = Table::new();
        sets.load_preset(presets::NOTHING).set_header(["set", "train+val", "test", "classes"]);
        sets.add_rows(&self.sets);
        let mut methods = Table::new();
        methods.load_preset(presets::NOTHING);
        let counts = self.backbones.iter().map(|name| format!("trained in {name}"));
        let first = ["method".to_owned(), "settings tried".to_owned()];
        methods.set_header(first.into_iter().chain(counts)).add_rows(&self.methods);
        text += &format!("{sets}\n\n{methods}\n{}\n", self.budget());
        text
    }
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

impl Selection {
    fn apply(&self, profile: &Profile) -> Result<Profile, String> {
        let mut profile = profile.clone();
        if let Some(sets) = &self.sets {
            unknown("set", sets, &profile.sets)?;
            profile.sets.retain(|set| sets.contains(set));
        }
        if let Some(methods) = &self.methods {
            let known: Vec<_> = profile.methods.iter().map(|spec| spec.method.clone()).collect();
            for name in methods {
                methods::find(name, serde_json::Map::new()).map_err(|error| error.to_string())?;
            }
            unknown("method", methods, &known)?;
            profile.methods.retain(|spec| methods.contains(&spec.method));
        }
        if let Some(backbones) = &self.backbones {
            profile.backbones.clone_from(backbones);
        }
        if let Some(seeds) = self.seeds {
            if seeds == 0 || seeds > profile.seeds.len() {
                return Err(format!("--seeds must be 1 to {}", profile.seeds.len()));
            }
            profile.seeds.truncate(seeds);
        }
        if let Some(epochs) = self.epochs {
            if epochs == 0 {
                return Err("--epochs must be 1 or more".into());
            }
            profile.protocol.epochs = epochs;
            profile.protocol.warmup_epochs = profile.protocol.warmup_epochs.min(epochs - 1);
        }
        Ok(profile)
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn unknown(what: &str, asked: &[String], known: &[String]) -> Result<(), String> {
    match asked.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("this profile has no {what} `{name}`; it has {}", known.join(", "))),
        None => Ok(()),
    }
}
