//! Describes a plan as text: what it contains, what is done, and how long the rest will take.

use std::collections::BTreeSet;

use anyhow::Result;
use comfy_table::{Table, presets};
use data_loaders::dataset;
use indicatif::HumanDuration;

use crate::messages::counted;
use crate::models::place;
use crate::models::published::published_projector;
use crate::plan::Plan;
use crate::plan::time::{PlanTime, Workers};
use crate::plan::tuning::FinalRun;
use crate::store::Store;
use crate::tasks::{Run, SetRow};

impl Plan {
    /// The number of runs, how many are done, and how long N workers will take for the rest.
    pub fn summary(&self, store: &Store, time: &PlanTime, workers: u32) -> String {
        let sizes = format!(
            "{} ({}), profile `{}`: {} x {} x {} x {} {} {} runs",
            self.experiment,
            self.suite,
            self.profile,
            counted(self.sets.len(), "set"),
            counted(self.backbones.len(), "backbone"),
            counted(self.methods.len(), "method"),
            counted(self.seeds, "seed"),
            // Some methods may be for some of the backbones only.
            if self.is_a_grid() { "=" } else { "in" },
            self.finals.len(),
        );
        let tune = self.are_done(&self.tune, store);
        let tuned = tune.iter().filter(|done| **done).count();
        let tuning = format!("{} tuning runs on val, {tuned} done", self.tune.len());
        let chosen = self.chosen(store);
        let finals = match &chosen {
            Some(chosen) => self.are_done(chosen, store),
            None => vec![false; self.finals.len()],
        };
        let done = finals.iter().filter(|done| **done).count();
        let text = match (tune.is_empty(), &chosen) {
            (true, _) => format!("{sizes}; {done} done"),
            (false, Some(_)) => format!("{sizes}; {done} done; {tuning}"),
            (false, None) => format!("{sizes}; first {tuning}"),
        };
        let left = tune.iter().chain(&finals).filter(|done| !**done).count();
        let workers = counted(workers as usize, "worker");
        match (time.wall_time(), time.unknown.first()) {
            _ if left == 0 => text,
            (Some(time), _) => {
                format!("{text}\nabout {} for the remaining {left}, with {workers}", HumanDuration(time))
            }
            (None, Some(reason)) => format!("{text}\ntime unknown: {reason}"),
            (None, None) => text,
        }
    }

    /// Whether every method is run on every backbone.
    fn is_a_grid(&self) -> bool {
        let place = |row: &FinalRun| (row.run.set.clone(), row.run.seed);
        let units: BTreeSet<_> = self.finals.iter().map(place).collect();
        units.len() * self.backbones.len() * self.methods.len() == self.finals.len()
    }

    /// Whether all methods have the same tuning budget, as text.
    fn budget(&self) -> String {
        let budgets: BTreeSet<usize> = self.finals.iter().map(|row| row.run.budget()).collect();
        match (budgets.first(), budgets.last()) {
            (Some(1), Some(1)) | (None, _) | (_, None) => "no tuning: every setting is fixed".into(),
            (Some(least), Some(most)) if least == most => {
                format!(
                    "every method has the same tuning budget: the best of {most} settings on val, chosen per set"
                )
            }
            (Some(least), Some(most)) => format!("UNEQUAL tuning budgets: {least} to {most} settings"),
        }
    }

    /// What will run, as text; `group` and `on_gpu` are as in [`Plan::groups`].
    ///
    /// # Errors
    /// When a run's method is unknown, or it cannot be serialised.
    pub fn describe(
        &self,
        store: &Store,
        time: &PlanTime,
        workers: &Workers,
        group: Option<usize>,
        on_gpu: bool,
    ) -> Result<String> {
        let mut text = self.summary(store, time, workers.count);
        text.push('\n');
        let finals: Vec<Run> = self.finals.iter().map(|row| row.run.clone()).collect();
        let groups = self.groups(&finals, group, on_gpu)?;
        let most = groups.iter().map(|group| group.runs().len()).max().unwrap_or(1);
        if most > 1 {
            text += &format!("trained in {} groups of up to {most} runs\n", groups.len());
        }
        let precisions: BTreeSet<&str> = finals.iter().map(|run| run.protocol.precision.name()).collect();
        text += &format!("precision {}\n", Vec::from_iter(precisions).join(" or "));
        let mut sets = Table::new();
        sets.load_preset(presets::NOTHING).set_header(["set", "train+val", "test", "classes", "split"]);
        sets.add_rows(&self.sets);
        let mut methods = Table::new();
        methods.load_preset(presets::NOTHING);
        let counts = self.backbones.iter().map(|name| format!("trained in {}", place::label(name)));
        let first = ["method".to_owned(), "settings tried".to_owned()];
        methods.set_header(first.into_iter().chain(counts)).add_rows(&self.methods);
        text += &format!("{sets}\n\n{methods}\n{}\n", self.budget());
        text += &time.in_words(workers);
        for (backbone, input) in &self.inputs {
            text += &format!("images for {} as in its own training: {input}\n", place::label(backbone));
        }
        if !self.overrides.is_empty() {
            text += &format!("settings of their own:\n  {}\n", self.overrides.join("\n  "));
        }
        for pair in &self.unaligned {
            let Self { experiment, profile, .. } = self;
            let published = published_projector(pair)
                .map_or_else(String::new, |name| format!(", or its published projector: `san fetch {name}`"));
            text += &format!(
                "the projector of {pair} is untrained: `san align {experiment} --profile {profile}` comes first\
                 {published}\n"
            );
        }
        Ok(text)
    }
}

impl SetRow {
    /// Name, number of training samples, number of test samples, classes, whose split it is.
    pub(super) fn cells(&self) -> [String; 5] {
        let Self { name, counts, classes, source } = self;
        let classes = classes.map_or("-".into(), |classes| classes.to_string());
        let split = source.unwrap_or("-").to_owned();
        [name.clone(), (counts.train + counts.val).to_string(), counts.test.to_string(), classes, split]
    }
}

/// The row of a set that is missing, with the published sizes.
pub(super) fn missing_row(name: &str) -> [String; 5] {
    let entry = dataset(name).ok();
    let or_dash = |number: Option<usize>| {
        number.filter(|&number| number > 0).map_or("-".into(), |number| number.to_string())
    };
    let counts = entry.and_then(|entry| entry.splits);
    let asked = entry.and_then(|entry| {
        let rows = entry.text.map(|text| text.test_rows);
        rows.or_else(|| entry.questions.map(|questions| questions.test_questions))
    });
    [
        name.to_owned(),
        or_dash(counts.map(|counts| counts.train + counts.val)),
        or_dash(counts.map(|counts| counts.test).or(asked)),
        or_dash(entry.map(|entry| entry.classes as usize)),
        "missing".into(),
    ]
}
