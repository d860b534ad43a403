//! One number for a method over sets and trainings, as Agarwal et al. (2021, "Deep reinforcement learning at the edge
//! of the statistical precipice", and their library rliable) define them, with their stratified bootstrap intervals.

use crate::statistics::bootstrap::{SplitMix64, quantile};
use crate::statistics::mean;

/// A method's scores on each set, one for each training.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// By set, then by training; no set is empty.
    pub sets: Vec<Vec<f64>>,
    /// Whether the trainings of all sets are the same: one model for all sets, with as many scores on each.
    pub shared: bool,
}

impl Scores {
    /// The scores of trainings drawn with replacement, on each set separately unless the sets share them.
    fn resampled(&self, random: &mut SplitMix64) -> Self {
        let mut draw = |count: usize| -> Vec<usize> { (0..count).map(|_| random.below(count)).collect() };
        let shared = self.shared.then(|| draw(self.sets.first().map_or(0, Vec::len)));
        let resample = |set: &Vec<f64>| {
            let places = shared.clone().unwrap_or_else(|| draw(set.len()));
            places.into_iter().map(|place| set[place]).collect()
        };
        Self { sets: self.sets.iter().map(resample).collect(), shared: self.shared }
    }

    fn fewest_trainings(&self) -> usize {
        self.sets.iter().map(Vec::len).min().unwrap_or(0)
    }

    fn flat(&self) -> Vec<f64> {
        self.sets.concat()
    }

    /// Bootstrap interval of a statistic of some methods' scores, at 95 %: sets are fixed, trainings are resampled within
    /// them (rliable's stratified bootstrap), percentiles of `resamples` resamples. Deviations are enlarged by
    /// sqrt(n / (n - 1)), without which n trainings have intervals that are too narrow (Hesterberg 2015, section 3.3):
    /// with three, by a fifth. `None` where the statistic is, or with fewer than two trainings.
    pub fn interval_95(
        methods: &[&Self],
        resamples: usize,
        seed: u64,
        statistic: impl Fn(&[Self]) -> Option<f64>,
    ) -> Option<(f64, f64)> {
        let fewest =
            methods.iter().map(|scores| scores.fewest_trainings()).min().filter(|&fewest| fewest > 1)?;
        let observed = statistic(&methods.iter().copied().cloned().collect::<Vec<_>>())?;
        let mut random = SplitMix64(seed);
        let mut values = (0..resamples)
            .map(|_| {
                statistic(&methods.iter().map(|scores| scores.resampled(&mut random)).collect::<Vec<_>>())
            })
            .collect::<Option<Vec<f64>>>()?;
        values.sort_by(f64::total_cmp);
        let enlarged = (fewest as f64 / (fewest - 1) as f64).sqrt();
        let bound = |share: f64| observed + enlarged * (quantile(&values, share) - observed);
        (!values.is_empty()).then(|| (bound(0.025), bound(0.975)))
    }
}

/// Mean of the middle half of all scores (scipy's `trim_mean` with 0.25); `None` without scores.
pub fn interquartile_mean(scores: &Scores) -> Option<f64> {
    let mut flat = scores.flat();
    flat.sort_by(f64::total_cmp);
    let cut = flat.len() / 4;
    mean(&flat[cut..flat.len() - cut])
}

/// How far scores are below `threshold` on average, where higher ones count as equal to it; `None` without scores.
pub fn optimality_gap(scores: &Scores, threshold: f64) -> Option<f64> {
    let capped: Vec<f64> = scores.flat().into_iter().map(|score| score.min(threshold)).collect();
    Some(threshold - mean(&capped)?)
}

/// Probability that a training of the first method scores higher than one of the second on the same set, ties counting
/// half: the Mann-Whitney statistic of each set, averaged over sets. `None` where a set has no scores, or for different
/// numbers of sets.
pub fn probability_of_improvement(first: &Scores, second: &Scores) -> Option<f64> {
    (first.sets.len() == second.sets.len()).then_some(())?;
    let of_set = |(first, second): (&Vec<f64>, &Vec<f64>)| {
        let wins = first
            .iter()
            .flat_map(|a| second.iter().map(move |b| (f64::from(a > b) + f64::from(a >= b)) / 2.0));
        mean(&wins.collect::<Vec<f64>>())
    };
    mean(&first.sets.iter().zip(&second.sets).map(of_set).collect::<Option<Vec<f64>>>()?)
}

/// Fraction of the scores above each threshold: the share of each set's trainings, averaged over sets.
pub fn performance_profile(scores: &Scores, thresholds: &[f64]) -> Vec<f64> {
    let above = |threshold: f64, set: &Vec<f64>| {
        set.iter().filter(|&&score| score > threshold).count() as f64 / set.len() as f64
    };
    let share = |&threshold: &f64| {
        scores.sets.iter().map(|set| above(threshold, set)).sum::<f64>() / scores.sets.len() as f64
    };
    thresholds.iter().map(share).collect()
}
