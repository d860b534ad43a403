//! Batches of sequences, grouped by length to reduce padding, in an order that is a function of (seed, epoch).
//!
//! Sequences are shuffled, cut into windows of many batches, sorted by length within a window and packed under a token
//! budget (padding included); then the batches are shuffled. Nothing is left out and no state is kept.

use serde::{Deserialize, Serialize};

use crate::random::Stream;
use crate::text::example::{Example, MASKED};

/// Limits on the batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchLimits {
    /// Maximum number of sequences.
    pub sequences: usize,
    /// Maximum number of tokens, padding included; a longer sequence is a batch of its own. `None`: no limit.
    #[serde(default)]
    pub tokens: Option<usize>,
}

/// Window size in batches: a larger window has less padding but less randomness in which sequences share a batch.
const WINDOW_BATCHES: usize = 32;

/// The side on which shorter sequences are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingSide {
    /// For generation: the last token of each sequence is at the end.
    Left,
    /// For training.
    Right,
}

/// Padded sequences in row-major order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedBatch {
    /// Number of sequences.
    pub rows: usize,
    /// Number of tokens per sequence.
    pub columns: usize,
    /// Token ids, `[rows, columns]`.
    pub tokens: Vec<i64>,
    /// Labels, `[rows, columns]`; [`MASKED`] for padding.
    pub labels: Vec<i64>,
    /// 0 for padding, 1 for tokens, 2 and above for the branch that a token belongs to; `[rows, columns]`.
    pub texts: Vec<i64>,
}

/// The batches of an epoch: indices of sequences, with `lengths` in tokens.
pub(super) fn window_batches(
    lengths: &[usize],
    limits: BatchLimits,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<usize>> {
    let order = Stream::new("text/order", &[seed, epoch]).permutation(lengths.len());
    let mut batches = Vec::new();
    for window in order.chunks(limits.sequences.max(1) * WINDOW_BATCHES) {
        let mut window = window.to_vec();
        window.sort_by_key(|place| lengths[*place]);
        batches.extend(pack(&window, lengths, limits));
    }
    let order = Stream::new("text/batches", &[seed, epoch]).permutation(batches.len());
    order.into_iter().map(|place| std::mem::take(&mut batches[place])).collect()
}

/// Evaluation batches: longest first, so that a budget that does not fit in memory fails immediately.
pub fn evaluation_batches(lengths: &[usize], limits: BatchLimits) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(lengths[*place]));
    pack(&order, lengths, limits)
}

/// Batches of consecutive elements of an order sorted by length.
fn pack(order: &[usize], lengths: &[usize], limits: BatchLimits) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for place in order {
        let padded = longest.max(lengths[*place]);
        let fits = |batch: &Vec<usize>| {
            let count = batch.len() + 1;
            count <= limits.sequences.max(1) && limits.tokens.is_none_or(|budget| count * padded <= budget)
        };
        match batches.last_mut().filter(|batch| fits(batch)) {
            Some(batch) => {
                batch.push(*place);
                longest = padded;
            }
            None => {
                batches.push(vec![*place]);
                longest = lengths[*place];
            }
        }
    }
    batches
}

impl PaddedBatch {
    /// Stacks examples, padded with `pad` on one side.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a Example>, pad: u32, side: PaddingSide) -> Self {
        let examples: Vec<&Example> = examples.into_iter().collect();
        let columns = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        let fill = |values: &mut Vec<i64>, own: &mut dyn Iterator<Item = i64>, len: usize, padding: i64| {
            let gap = std::iter::repeat_n(padding, columns - len);
            match side {
                PaddingSide::Left => values.extend(gap.chain(own)),
                PaddingSide::Right => values.extend(own.chain(gap)),
            }
        };
        let (mut tokens, mut labels, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for example in &examples {
            let len = example.tokens.len();
            fill(&mut tokens, &mut example.tokens.iter().map(|token| i64::from(*token)), len, i64::from(pad));
            fill(&mut labels, &mut example.labels.iter().copied(), len, MASKED);
            let text = |place: usize| 1 + example.branches.iter().filter(|start| **start <= place).count();
            fill(&mut texts, &mut (0..len).map(|place| text(place) as i64), len, 0);
        }
        Self { rows: examples.len(), columns, tokens, labels, texts }
    }

    /// Stacks prompts for generation: padded on the left, without labels.
    pub fn prompts<'a>(prompts: impl IntoIterator<Item = &'a [u32]>, pad: u32) -> Self {
        let masked = |tokens: &[u32]| Example::new(tokens.to_vec(), vec![MASKED; tokens.len()]);
        let examples: Vec<Example> = prompts.into_iter().map(masked).collect();
        Self::new(&examples, pad, PaddingSide::Left)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example(tokens: &[u32]) -> Example {
        Example::new(tokens.to_vec(), tokens.iter().map(|token| i64::from(*token)).collect())
    }

    #[test]
    fn padding_is_masked_on_either_side() {
        let examples = [example(&[1, 5]), example(&[1, 6, 7])];
        let right = PaddedBatch::new(&examples, 0, PaddingSide::Right);
        assert_eq!((right.rows, right.columns), (2, 3));
        assert_eq!(right.tokens, [1, 5, 0, 1, 6, 7]);
        assert_eq!(right.labels, [1, 5, MASKED, 1, 6, 7]);
        assert_eq!(right.texts, [1, 1, 0, 1, 1, 1]);
        let left = PaddedBatch::new(&examples, 0, PaddingSide::Left);
        assert_eq!(left.tokens, [0, 1, 5, 1, 6, 7]);
        assert_eq!(left.labels, [MASKED, 1, 5, 1, 6, 7]);
        assert_eq!(left.texts, [0, 1, 1, 1, 1, 1]);
        let branched = Example { branches: vec![1, 2], ..example(&[1, 6, 7]) };
        let branched = PaddedBatch::new(&[branched, example(&[1, 5])], 0, PaddingSide::Right);
        assert_eq!(branched.texts, [1, 2, 3, 1, 1, 0]);
        let prompts = PaddedBatch::prompts([&[1, 5][..], &[1, 6, 7]], 9);
        assert_eq!(prompts.tokens, [9, 1, 5, 1, 6, 7]);
        assert!(prompts.labels.iter().all(|label| *label == MASKED));
    }

    #[test]
    fn an_order_is_a_function_of_seed_and_epoch_only() {
        let lengths: Vec<usize> = (0..500).map(|n| 20 + n * 7 % 90).collect();
        let limits = BatchLimits { sequences: 16, tokens: Some(1200) };
        let first = window_batches(&lengths, limits, 1, 0);
        assert_eq!(first, window_batches(&lengths, limits, 1, 0));
        assert_ne!(first, window_batches(&lengths, limits, 1, 1));
        assert_ne!(first, window_batches(&lengths, limits, 2, 0));
    }

    #[test]
    fn grouping_by_length_leaves_little_padding() {
        let lengths: Vec<usize> = (0..2000).map(|n| 20 + n * 37 % 230).collect();
        let tokens: usize = lengths.iter().sum();
        let limits = BatchLimits { sequences: 16, tokens: None };
        let padded: usize = window_batches(&lengths, limits, 0, 0)
            .iter()
            .map(|batch| batch.len() * batch.iter().map(|place| lengths[*place]).max().unwrap())
            .sum();
        assert!((padded as f64) < 1.1 * tokens as f64, "{padded} of {tokens}");
    }

    proptest! {
        #[test]
        fn every_sequence_is_in_one_batch_and_no_batch_is_over_its_limits(
            lengths in prop::collection::vec(1_usize..300, 0..200),
            sequences in 1_usize..20,
            tokens in prop::option::of(1_usize..2000),
            seed in 0_u64..9,
        ) {
            let limits = BatchLimits { sequences, tokens };
            for batches in [window_batches(&lengths, limits, seed, 3), evaluation_batches(&lengths, limits)] {
                let mut places = batches.concat();
                places.sort_unstable();
                prop_assert_eq!(places, (0..lengths.len()).collect::<Vec<_>>());
                for batch in &batches {
                    let longest = batch.iter().map(|place| lengths[*place]).max().unwrap();
                    prop_assert!(batch.len() <= sequences);
                    let fits = tokens.is_none_or(|budget| batch.len() * longest <= budget);
                    prop_assert!(fits || batch.len() == 1);
                }
            }
        }
    }
}
