//! Which training examples share a batch: this project's windows, plain shuffling, Hugging Face's `group_by_length` and
//! LLaVA's grouping by modality and length. Each is a function of (seed, epoch), leaves nothing out and keeps no state.

use serde::{Deserialize, Serialize};

use crate::random::Stream;
use crate::text::batch::{BatchLimits, window_batches};

/// Batches in a megabatch of Hugging Face's sampler, at most; a quarter of the epoch if that is less.
const MEGABATCH: usize = 50;

/// How examples are grouped into batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batching {
    /// Sorted by length within windows of 32 batches, which are then shuffled.
    #[default]
    Windows,
    /// Shuffled: the default of Hugging Face's `Trainer`.
    Shuffled,
    /// Sorted by length, longest first, within megabatches of 50 batches, and not shuffled again; the longest example of
    /// all is in the first batch: transformers' `get_length_grouped_indices`.
    ByLength,
    /// A batch has only examples with an image, or only such without, but for the last ones; it is sorted by length:
    /// LLaVA's `get_modality_length_grouped_indices`, where a batch is that of all devices.
    ByModalityAndLength,
}

/// What batching depends on.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// The number of tokens of each example.
    pub lengths: &'a [usize],
    /// Whether each has an image.
    pub pictured: &'a [bool],
}

impl Batching {
    /// Whether it is the default.
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The batches of an epoch: indices of examples. Only windows have a limit of tokens.
    pub fn batches(
        self,
        sequences: Sequences<'_>,
        limits: BatchLimits,
        seed: u64,
        epoch: u64,
    ) -> Vec<Vec<usize>> {
        let Sequences { lengths, pictured } = sequences;
        let size = limits.sequences.max(1);
        let shuffled = |purpose: &str, count: usize| Stream::new(purpose, &[seed, epoch]).permutation(count);
        let order = match self {
            Self::Windows => return window_batches(lengths, limits, seed, epoch),
            Self::Shuffled => shuffled("text/order", lengths.len()),
            Self::ByLength => by_length(shuffled("text/order", lengths.len()), lengths, size),
            Self::ByModalityAndLength => {
                let of = |with: bool, purpose: &str| {
                    let places: Vec<usize> =
                        (0..lengths.len()).filter(|&place| pictured[place] == with).collect();
                    shuffled(purpose, places.len()).into_iter().map(|index| places[index]).collect::<Vec<_>>()
                };
                let parts = [of(true, "text/order with image"), of(false, "text/order without image")];
                by_modality(parts, lengths, size, |count| shuffled("text/batches", count))
            }
        };
        order.chunks(size).map(<[usize]>::to_vec).collect()
    }
}

fn longest_first(order: &mut [usize], lengths: &[usize]) {
    order.sort_by_key(|place| std::cmp::Reverse(lengths[*place]));
}

fn by_length(mut order: Vec<usize>, lengths: &[usize], size: usize) -> Vec<usize> {
    let megabatch = size * (order.len() / (4 * size)).clamp(1, MEGABATCH);
    order.chunks_mut(megabatch).for_each(|part| longest_first(part, lengths));
    // The first of the longest megabatch trades places with the first of all.
    let firsts = (0..order.len()).step_by(megabatch);
    // The first one of several that are equally long, as `argmax` in torch.
    if let Some(longest) = firsts.max_by_key(|&first| (lengths[order[first]], std::cmp::Reverse(first))) {
        order.swap(0, longest);
    }
    order
}

fn by_modality(
    parts: [Vec<usize>; 2],
    lengths: &[usize],
    size: usize,
    shuffled: impl Fn(usize) -> Vec<usize>,
) -> Vec<usize> {
    let one_modality = parts.iter().any(Vec::is_empty);
    let (mut full, mut rest) = (Vec::new(), Vec::new());
    for part in parts {
        let mut batches: Vec<Vec<usize>> = part.chunks(size).map(<[usize]>::to_vec).collect();
        batches.iter_mut().for_each(|batch| longest_first(batch, lengths));
        if one_modality {
            full.extend(batches);
            continue;
        }
        rest.extend(batches.pop().unwrap_or_default());
        full.extend(batches);
    }
    if one_modality {
        return full.concat();
    }
    rest.sort_unstable();
    let order = shuffled(full.len()).into_iter().flat_map(|index| std::mem::take(&mut full[index]));
    order.collect::<Vec<_>>().into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Batching; 4] =
        [Batching::Windows, Batching::Shuffled, Batching::ByLength, Batching::ByModalityAndLength];

    fn batches(batching: Batching, lengths: &[usize], pictured: &[bool], seed: u64) -> Vec<Vec<usize>> {
        let limits = BatchLimits { sequences: 8, tokens: None };
        batching.batches(Sequences { lengths, pictured }, limits, seed, 0)
    }

    fn lengths(count: usize) -> Vec<usize> {
        (0..count).map(|n| 20 + n * 7919 % 997).collect()
    }

    proptest! {
        #[test]
        fn every_example_is_in_one_batch(count in 0_usize..300, seed in 0_u64..20, share in 1_usize..9) {
            let pictured: Vec<bool> = (0..count).map(|n| n * 31 % 8 < share).collect();
            for batching in ALL {
                let batches = batches(batching, &lengths(count), &pictured, seed);
                prop_assert!(batches.iter().all(|batch| (1..=8).contains(&batch.len())));
                let mut all = batches.concat();
                all.sort_unstable();
                prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn shuffled_batches_do_not_depend_on_lengths() {
        let (count, other) = (lengths(100), vec![1; 100]);
        let pictured = vec![false; 100];
        let shuffled = batches(Batching::Shuffled, &count, &pictured, 1);
        assert_eq!(shuffled, batches(Batching::Shuffled, &other, &pictured, 1));
        assert_ne!(shuffled, batches(Batching::Shuffled, &count, &pictured, 2));
    }

    #[test]
    fn grouping_by_length_sorts_megabatches_and_starts_with_the_longest_example() {
        let lengths = lengths(400);
        let batches = batches(Batching::ByLength, &lengths, &[false; 400], 3);
        // 400 examples in batches of 8: a megabatch is a quarter of the order, rounded down to batches.
        let order = batches.concat();
        let longest = *lengths.iter().max().unwrap();
        assert_eq!(lengths[order[0]], longest);
        for (number, megabatch) in order.chunks(12 * 8).enumerate() {
            // The first of the first megabatch and of another have traded places.
            let of = |place: &usize| lengths[*place];
            assert!(megabatch[1..].is_sorted_by_key(|place| std::cmp::Reverse(of(place))), "{number}");
        }
    }

    #[test]
    fn grouping_by_modality_mixes_only_the_last_examples() {
        let lengths = lengths(203);
        let pictured: Vec<bool> = (0..203).map(|n| n % 3 != 0).collect();
        let batches = batches(Batching::ByModalityAndLength, &lengths, &pictured, 3);
        let mixed = |batch: &&Vec<usize>| batch.iter().any(|&place| pictured[place] != pictured[batch[0]]);
        let (first, last) = batches.split_at(batches.len() - 2);
        assert!(!first.iter().any(|batch| mixed(&batch)));
        assert!(last.iter().any(|batch| mixed(&batch)));
        let order: Vec<bool> = first.iter().map(|batch| pictured[batch[0]]).collect();
        assert!(!order.is_sorted() && !order.iter().rev().is_sorted(), "modalities alternate");
        assert!(first.iter().all(|batch| batch.is_sorted_by_key(|place| std::cmp::Reverse(lengths[*place]))));
    }
}
