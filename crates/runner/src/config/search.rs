//! What is tuned for a method: a grid, or random samples from ranges and lists.
//!
//! The short form is a list of learning rates. A `search` names more axes; its trials are all combinations, or as many
//! random ones as `random` requests, drawn from a seed. Each trial is trained on `train` and evaluated on `val`; the
//! number of trials is the method's budget.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use san_core::methods::UNTRAINED;
use san_core::random::generator;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::experiment::MethodSpec;
use crate::tasks::{Protocol, Trial};

/// Attempts at drawing a new trial before the search space counts as too small.
const ATTEMPTS: usize = 1000;

/// The maximum number of settings of a method; random ones are compared with each other.
const MOST_TRIALS: usize = 10_000;

/// The axes of a search; what is not named keeps the value of the method or the protocol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Random trials instead of all combinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<Random>,
    /// Peak learning rates of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<Axis>,
    /// AdamW's weight decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<Axis>,
    /// Fields of the task's protocol by name, such as `drop_path` of classification.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub task: BTreeMap<String, Axis>,
    /// Options of the method by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Axis>,
}

/// The number of random trials, and their seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// The budget.
    pub trials: usize,
    /// Seed of the random samples.
    #[serde(default)]
    pub seed: u64,
}

/// The values of one axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Axis {
    /// A list of values.
    List(Vec<Value>),
    /// Any number in a range; for random trials only.
    Range(Range),
}

/// A range of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Lower end.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// Whether it is sampled log-uniformly instead of uniformly; the usual choice for rates.
    #[serde(default = "yes")]
    pub log: bool,
}

fn yes() -> bool {
    true
}

/// What an axis changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of<'a> {
    LearningRate,
    WeightDecay,
    /// A field of the task's protocol.
    Task(&'a str),
    /// An option of the method.
    Option(&'a str),
}

impl Of<'_> {
    fn name(&self) -> &str {
        match self {
            Self::LearningRate => "learning_rate",
            Self::WeightDecay => "weight_decay",
            Self::Task(name) | Self::Option(name) => name,
        }
    }
}

/// An axis and what it changes.
type Named<'a> = (Of<'a>, &'a Axis);

impl MethodSpec {
    /// The settings that are tried, in order; one if nothing is tuned. A method that trains nothing needs no rate.
    ///
    /// # Errors
    /// When an axis is empty or invalid, or the space is smaller than the budget.
    pub fn trials(&self, protocol: &Protocol) -> Result<Vec<Trial>, String> {
        if self.method == UNTRAINED && self.learning_rate.all().is_empty() && self.search.is_none() {
            return Ok(vec![untuned(protocol)]);
        }
        let none = Search::default();
        let search = self.search.as_ref().unwrap_or(&none);
        let rates = Axis::List(self.learning_rate.all().iter().map(|&rate| rate.into()).collect());
        let mut axes: Vec<Named<'_>> =
            vec![(Of::LearningRate, search.learning_rate.as_ref().unwrap_or(&rates))];
        axes.extend(search.weight_decay.as_ref().map(|axis| (Of::WeightDecay, axis)));
        axes.extend(search.task.iter().map(|(name, axis)| (Of::Task(name), axis)));
        axes.extend(search.options.iter().map(|(name, axis)| (Of::Option(name), axis)));
        for (of, axis) in &axes {
            axis.check().map_err(|reason| format!("method `{}`: `{}` {reason}", self.method, of.name()))?;
        }
        let settings = match search.random {
            Some(random) => draw(&axes, random),
            None => combinations(&axes),
        };
        let named = |reason: String| format!("method `{}`: {reason}", self.method);
        settings.map_err(named)?.iter().map(|values| trial(&axes, values, protocol).map_err(named)).collect()
    }

    /// Names of the options that are searched.
    pub fn searched_options(&self) -> Vec<&str> {
        self.search.iter().flat_map(|search| search.options.keys().map(String::as_str)).collect()
    }
}

impl Axis {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::List(values) if values.is_empty() => Err("has no value".into()),
            Self::List(values) => {
                let alike = |one: &Value, other: &Value| {
                    one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
                };
                let mut numbered = values.iter().enumerate();
                match numbered.find(|(at, value)| values[..*at].iter().any(|other| alike(value, other))) {
                    Some((_, twice)) => Err(format!("has {twice} twice, which is one setting, not two")),
                    None => Ok(()),
                }
            }
            Self::Range(Range { from, to, log }) if !(from < to && (*from > 0.0 || !log)) => {
                Err("needs `from` below `to`, and above 0 unless `log: false`".into())
            }
            _ => Ok(()),
        }
    }
}

/// All combinations; the last axis varies fastest.
fn combinations(axes: &[Named<'_>]) -> Result<Vec<Vec<Value>>, String> {
    axes.iter().try_fold(vec![Vec::new()], |settings, (of, axis)| {
        let Axis::List(values) = axis else {
            return Err(format!(
                "`{}` is a range: set a number of `random` trials, or give a list of values",
                of.name()
            ));
        };
        if settings.len().saturating_mul(values.len()) > MOST_TRIALS {
            return Err(format!("its search has more than {MOST_TRIALS} combinations"));
        }
        let longer = |setting: &Vec<Value>| {
            let setting = setting.clone();
            values.iter().map(move |value| [&setting[..], std::slice::from_ref(value)].concat())
        };
        Ok(settings.iter().flat_map(longer).collect())
    })
}

/// Random settings, all different.
fn draw(axes: &[Named<'_>], random: Random) -> Result<Vec<Vec<Value>>, String> {
    if !(1..=MOST_TRIALS).contains(&random.trials) {
        return Err(format!("`trials` is {}; expected a number from 1 to {MOST_TRIALS}", random.trials));
    }
    let mut generator = generator(random.seed, "random search");
    let mut settings: Vec<Vec<Value>> = Vec::new();
    for _ in 0..random.trials {
        let fresh = (0..ATTEMPTS)
            .map(|_| axes.iter().map(|(_, axis)| draw_one(axis, &mut generator)).collect::<Vec<_>>())
            .find(|setting| !settings.contains(setting));
        settings.push(fresh.ok_or("the search space has fewer settings than `trials`")?);
    }
    Ok(settings)
}

fn draw_one(axis: &Axis, generator: &mut ChaCha8Rng) -> Value {
    match axis {
        Axis::List(values) => values[generator.random_range(0..values.len())].clone(),
        Axis::Range(Range { from, to, log }) => {
            let share: f64 = generator.random();
            let number = if *log { from * (to / from).powf(share) } else { from + (to - from) * share };
            // Three digits: more would be hard to read, and nothing depends on them.
            format!("{number:.2e}").parse::<f64>().unwrap_or(number).into()
        }
    }
}

/// The protocol's values, without a rate.
fn untuned(protocol: &Protocol) -> Trial {
    Trial { learning_rate: 0.0, weight_decay: protocol.weight_decay, task: Map::new(), options: Map::new() }
}

fn trial(axes: &[Named<'_>], values: &[Value], protocol: &Protocol) -> Result<Trial, String> {
    let mut trial = untuned(protocol);
    for ((of, _), value) in axes.iter().zip(values) {
        let number = || value.as_f64().ok_or(format!("`{}`: `{value}` is not a number", of.name()));
        match of {
            Of::LearningRate => trial.learning_rate = number()?,
            Of::WeightDecay => trial.weight_decay = number()?,
            Of::Task(field) => drop(trial.task.insert((*field).to_owned(), value.clone())),
            Of::Option(option) => drop(trial.options.insert((*option).to_owned(), value.clone())),
        }
    }
    let Trial { learning_rate, weight_decay, .. } = trial;
    if !(learning_rate.is_finite() && learning_rate > 0.0) {
        return Err("learning rates must be above 0".into());
    }
    if !(weight_decay.is_finite() && weight_decay >= 0.0) {
        return Err("`weight_decay` must be at least 0".into());
    }
    protocol.with_task_fields(&trial.task)?;
    Ok(trial)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> MethodSpec {
        serde_yaml::from_str(text).unwrap()
    }

    fn protocol() -> Protocol {
        serde_yaml::from_str(
            "{epochs: 2, batch_size: 16, weight_decay: 0.5, classification: {warmup_epochs: 1, image: \
             {image_size: 32, resize: plain, filter: bilinear, normalisation: half}}}",
        )
        .unwrap()
    }

    #[test]
    fn a_grid_is_every_combination_and_a_list_of_rates_is_the_short_form() {
        assert_eq!(spec("{method: frozen}").trials(&protocol()).unwrap()[0].learning_rate, 0.0);
        assert!(spec("{method: san}").trials(&protocol()).unwrap_err().contains("has no value"));
        let short = spec("{method: san, learning_rate: [0.1, 0.2]}").trials(&protocol()).unwrap();
        assert_eq!(short.iter().map(|trial| trial.learning_rate).collect::<Vec<_>>(), [0.1, 0.2]);
        assert!(short.iter().all(|trial| trial.weight_decay == 0.5 && trial.options.is_empty()));
        let grid = "{method: lora, learning_rate: [0.1, 0.2], \
                    search: {task: {drop_path: [0.0, 0.1]}, options: {rank: [4, 8, 16]}}}";
        let trials = spec(grid).trials(&protocol()).unwrap();
        assert_eq!(trials.len(), 12);
        assert_eq!(
            (trials[1].options["rank"].as_u64(), trials[3].task["drop_path"].as_f64()),
            (Some(8), Some(0.1))
        );
    }

    #[test]
    fn random_trials_are_a_function_of_the_seed_and_within_their_ranges() {
        let of = |seed: u64| {
            let text = format!(
                "{{method: san, search: {{random: {{trials: 20, seed: {seed}}}, \
                 learning_rate: {{from: 1.0e-4, to: 1.0e-1}}, weight_decay: [0.0, 0.1]}}}}"
            );
            spec(&text).trials(&protocol()).unwrap()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let trials = of(1);
        assert!(trials.iter().all(|trial| (1e-4..=1e-1).contains(&trial.learning_rate)));
        let low = trials.iter().filter(|trial| trial.learning_rate < 3.2e-3).count();
        assert!((5..=15).contains(&low), "half of a log range lies below its middle: {low}");
    }

    #[test]
    fn invalid_search_spaces_are_refused_with_the_reason() {
        for (search, reason) in [
            ("learning_rate: {from: 1.0e-4, to: 1.0e-1}", "set a number of `random` trials"),
            ("random: {trials: 3}, learning_rate: [0.1, 0.2]", "fewer settings"),
            ("learning_rate: {from: 0.0, to: 1.0}", "`from` below `to`"),
            ("learning_rate: []", "has no value"),
            ("learning_rate: [0.0]", "above 0"),
            ("learning_rate: [0.1], task: {drop_path: [1.0]}", "below 1"),
            ("learning_rate: [0.1], task: {warmup_ratio: [0.1]}", "unknown field `warmup_ratio`"),
            ("learning_rate: [1.0e-3, 1e-3]", "`learning_rate` has 0.001 twice"),
            ("learning_rate: [0.1], options: {rank: [4, 8, 4]}", "`rank` has 4 twice"),
            (
                "random: {trials: 18446744073709551615}, learning_rate: {from: 0.1, to: 0.2}",
                "from 1 to 10000",
            ),
            (
                "learning_rate: [0.1], options: {a: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], b: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], \
              c: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], d: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], e: [1, 2]}",
                "combinations",
            ),
        ] {
            let shown = spec(&format!("{{method: san, search: {{{search}}}}}")).trials(&protocol());
            assert!(shown.as_ref().is_err_and(|shown| shown.contains(reason)), "{search}: {shown:?}");
        }
    }
}
