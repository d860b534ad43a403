//! The runs of a plan: those of the tuning stage, and those of the table.

use std::path::Path;

use anyhow::{Error, Result};
use report::record::Stage;
use serde_json::Map;

use crate::config::experiment::{MethodSpec, Profile};
use crate::config::overrides::Resolved;
use crate::models::{BaseModel, SavedAdapter};
use crate::plan::missing::Missing;
use crate::plan::parameters::model;
use crate::plan::tuning::FinalRun;
use crate::plan::{Plan, resolved_options, row};
use crate::resources::Resources;
use crate::tasks::{Protocol, Run, StartingAdapter, Trial, Unit};

impl Plan {
    /// Adds the runs of every method on every backbone for one unit; those whose data or weights are missing have no
    /// checksum of them.
    pub(super) fn add_unit(
        &mut self,
        profile: &Profile,
        unit: &Unit,
        trials: &mut Vec<KnownTrials>,
        missing: &mut Missing,
        resources: &mut Resources,
    ) -> Result<()> {
        let lacks_data = missing.lacks_any_data_of(unit, &profile.data);
        // Sets are opened once for each protocol: methods rarely differ in theirs.
        let mut opened: Vec<(Protocol, String)> = Vec::new();
        for (backbone, spec) in
            profile.backbones.iter().flat_map(|name| profile.methods.iter().map(move |spec| (name, spec)))
        {
            if !spec.is_for(backbone) {
                continue;
            }
            let Resolved { spec, protocol } =
                profile.resolved(spec, &unit.set, backbone).map_err(Error::msg)?;
            let protocol = protocol.with_input(|| resources.models.input(backbone))?;
            let task = protocol.task().map_err(Error::msg)?;
            let base = model(task, backbone, &protocol, missing, resources)?;
            let known = opened.iter().find(|(other, _)| *other == protocol).map(|(_, data)| data.clone());
            let data_checksum = match known {
                Some(checksum) => checksum,
                None if lacks_data => String::new(),
                None => {
                    let data = task.describe(unit, &profile.data, &mut resources.data);
                    let checksum = missing.or_list(data)?.map(|data| data.checksum).unwrap_or_default();
                    opened.push((protocol.clone(), checksum.clone()));
                    checksum
                }
            };
            let start = |(path, base): (&String, &BaseModel)| -> Result<StartingAdapter> {
                let checksum = SavedAdapter::read(Path::new(path), base)?.checksum;
                Ok(StartingAdapter { path: path.clone(), checksum })
            };
            let adapter = spec.adapter.as_ref().zip(base.as_ref()).map(start).transpose()?;
            let base = Run {
                experiment: self.experiment.clone(),
                suite: self.suite.clone(),
                profile: self.profile.clone(),
                stage: Stage::Final,
                set: unit.set.clone(),
                sets: unit.sets.clone(),
                data: profile.data.clone(),
                data_checksum,
                backbone: backbone.clone(),
                weights_checksum: base.as_ref().map(BaseModel::checksum).unwrap_or_default().to_owned(),
                method: spec.method.clone(),
                options: Map::new(),
                adapter,
                learning_rate: 0.0,
                chosen_from: Vec::new(),
                searched: Vec::new(),
                row: None,
                seed: profile.seeds[0],
                protocol,
            };
            self.add_runs(&base, &spec, &profile.seeds, trials)?;
        }
        Ok(())
    }

    fn add_runs(
        &mut self,
        base: &Run,
        spec: &MethodSpec,
        seeds: &[u64],
        known: &mut Vec<KnownTrials>,
    ) -> Result<()> {
        let KnownTrials { trials, runs, .. } = KnownTrials::of(base, spec, known)?;
        let place = |run: &Run| Run {
            learning_rate: run.learning_rate,
            protocol: run.protocol.clone(),
            options: run.options.clone(),
            ..base.clone()
        };
        let (trials, mut runs): (_, Vec<Run>) = (trials.clone(), runs.iter().map(place).collect());
        let tuned = trials.len() > 1;
        let first = self.tune.len();
        if tuned {
            self.tune.extend(runs.iter().map(|run| Run { stage: Stage::Tune, ..run.clone() }));
        }
        let mut run = runs.swap_remove(0);
        run.row = row(spec)?;
        match &spec.search {
            _ if !tuned => {}
            None => run.chosen_from = trials.iter().map(|trial| trial.learning_rate).collect(),
            Some(_) => run.searched = trials,
        }
        for &seed in seeds {
            let candidates = first..self.tune.len();
            self.finals.push(FinalRun { run: Run { seed, ..run.clone() }, candidates });
        }
        Ok(())
    }
}

/// The trials of a method, and a run of each. They are the same on most sets, and making them takes most of the time of a
/// plan.
pub(super) struct KnownTrials {
    spec: String,
    protocol: Protocol,
    trials: Vec<Trial>,
    runs: Vec<Run>,
}

impl KnownTrials {
    fn of<'a>(base: &Run, spec: &MethodSpec, known: &'a mut Vec<Self>) -> Result<&'a Self> {
        let key = serde_json::to_string(spec)?;
        let is_this = |one: &Self| one.spec == key && one.protocol == base.protocol;
        let place = match known.iter().position(is_this) {
            Some(place) => place,
            None => {
                let trials = spec.trials(&base.protocol).map_err(Error::msg)?;
                let run = |trial: &Trial| -> Result<Run> {
                    let run = base.with(trial).map_err(Error::msg)?;
                    Ok(Run { options: resolved_options(spec, trial)?, ..run })
                };
                let runs = trials.iter().map(run).collect::<Result<_>>()?;
                known.push(Self { spec: key, protocol: base.protocol.clone(), trials, runs });
                known.len() - 1
            }
        };
        Ok(&known[place])
    }
}
