//! A plan in words: what there is, what is done, and how long the rest takes.

use std::collections::BTreeSet;

use comfy_table::{Table, presets};
use indicatif::HumanDuration;

use crate::plan::Plan;
use crate::plan::cell::Cell;
use crate::plan::estimate::time_left;
use crate::store::Store;

impl Plan {
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
        for pair in &self.strangers {
            let Self { experiment, profile, .. } = self;
            text += &format!(
                "the projector of {pair} is untrained: `san align {experiment} --profile {profile}` comes first\n"
            );
        }
        text
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
