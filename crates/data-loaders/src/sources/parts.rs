//! Samples the parts of a dataset without benchmark lists from the authors' own parts, with a fixed seed.
//!
//! Such a split is never VTAB-1k's, whatever its size; `SplitOrigin` marks it wherever results are shown. Sampling is
//! stratified: class shares are kept, rounded by largest remainders. If a pool is smaller than in the registry (a
//! subset, a test fixture), sizes shrink in proportion.

use crate::random::Stream;
use crate::registry::{DatasetEntry, Suite};
use crate::sources::layout::Drawn;
use crate::sources::sample::Sample;

/// The authors' own parts, in the order train, val, test; empty if there are none.
pub(crate) type Pools = [Vec<Sample>; 3];

/// Samples the benchmark's parts from the pools.
pub(crate) fn sample_parts(entry: &DatasetEntry, pools: Pools) -> Pools {
    let [mut train, mut val, mut test] = pools;
    let Some(sizes) = entry.splits else { return [train, val, test] };
    if test.is_empty() {
        let available = entry.original.as_ref().map_or(train.len(), |original| original.counts.train);
        let count = share(train.len(), sizes.test, available.max(sizes.test));
        (test, train) = take(train, count, &entry.name, "test");
    }
    if val.is_empty() && entry.suite != Suite::Vtab {
        let count = share(train.len(), sizes.val, sizes.train + sizes.val);
        (val, train) = take(train, count, &entry.name, "val");
    }
    if entry.suite == Suite::Vtab {
        if val.is_empty() {
            let both = train.len().min(sizes.train + sizes.val);
            let (sampled, _) = take(train, both, &entry.name, "train+val");
            let count = share(both, sizes.val, sizes.train + sizes.val);
            (val, train) = take(sampled, count, &entry.name, "val");
        } else {
            (train, _) = take(train, sizes.train, &entry.name, "train");
            (val, _) = take(val, sizes.val, &entry.name, "val");
        }
    }
    [train, val, test]
}

/// VTAB's parts of a whole dataset, in the order of its rows: the first 800 rows of train and the first 200 of val, or
/// the 200 after those 800 if there is no val; if there is no test, the last rows of train.
pub(crate) fn first_rows(entry: &DatasetEntry, pools: Pools) -> Pools {
    let [mut train, mut val, mut test] = pools;
    let Some(sizes) = entry.splits else { return [train, val, test] };
    if test.is_empty() {
        let available = entry.original.as_ref().map_or(train.len(), |original| original.counts.train);
        test = train.split_off(train.len() - share(train.len(), sizes.test, available.max(sizes.test)));
    }
    if val.is_empty() {
        train.truncate(sizes.train + sizes.val);
        val = train.split_off(train.len() - share(train.len(), sizes.val, sizes.train + sizes.val));
    }
    train.truncate(sizes.train);
    val.truncate(sizes.val);
    [train, val, test]
}

/// Divides the images of train+val, given as one list, into train and val.
pub(crate) fn hold_out_val(entry: &DatasetEntry, both: Vec<Sample>) -> (Vec<Sample>, Vec<Sample>) {
    let count = entry.splits.map_or_else(
        || share(both.len(), 1, 5),
        |sizes| share(both.len(), sizes.val, sizes.train + sizes.val),
    );
    let (val, train) = take(both, count, &entry.name, "val");
    (train, val)
}

/// The parts of a set of one's own: those that are given, and a tenth of train for each of val and test that is not.
pub(crate) fn complete(entry: &DatasetEntry, pools: Pools) -> (Pools, Drawn) {
    let [mut train, mut val, mut test] = pools;
    let (count, mut drawn) = (share(train.len(), 1, 10), Drawn::Nothing);
    for (part, purpose) in [(&mut test, "test"), (&mut val, "val")] {
        if part.is_empty() {
            (*part, train) = take(train, count, &entry.name, purpose);
            drawn = Drawn::Seeded;
        }
    }
    ([train, val, test], drawn)
}

/// `part / whole` of a pool, rounded to the nearest image; with two or more images, each side gets at least one.
fn share(pool: usize, part: usize, whole: usize) -> usize {
    let nearest = (pool * part + whole / 2) / whole.max(1);
    if pool > 1 { nearest.clamp(1, pool - 1) } else { nearest }
}

/// Takes a stratified sample of size `count`; returns the sample and the rest, both in their original order.
pub(crate) fn take(pool: Vec<Sample>, count: usize, set: &str, purpose: &str) -> (Vec<Sample>, Vec<Sample>) {
    let classes = pool.iter().map(|sample| sample.label as usize + 1).max().unwrap_or(0);
    let mut members = vec![Vec::new(); classes];
    for (index, sample) in pool.iter().enumerate() {
        members[sample.label as usize].push(index);
    }
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    let mut chosen = vec![false; pool.len()];
    for ((class, members), quota) in members.iter().enumerate().zip(quotas(&sizes, count)) {
        let stream = &mut Stream::new(&format!("split/{set}/{purpose}"), &[class as u64]);
        for place in stream.permutation(members.len()).into_iter().take(quota) {
            chosen[members[place]] = true;
        }
    }
    let (sampled, rest): (Vec<_>, Vec<_>) = pool.into_iter().zip(chosen).partition(|(_, chosen)| *chosen);
    let samples = |pairs: Vec<(Sample, bool)>| pairs.into_iter().map(|(sample, _)| sample).collect();
    (samples(sampled), samples(rest))
}

/// Sample size per class, preserving shares: floors, then the largest remainders, ties to the lower class.
fn quotas(sizes: &[usize], count: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    let count = count.min(total);
    let mut quotas: Vec<usize> = sizes.iter().map(|size| size * count / total.max(1)).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|class| std::cmp::Reverse(sizes[*class] * count % total.max(1)));
    let missing = count - quotas.iter().sum::<usize>();
    order.into_iter().take(missing).for_each(|class| quotas[class] += 1);
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::dataset;

    fn pool(labels: impl IntoIterator<Item = u32>) -> Vec<Sample> {
        labels
            .into_iter()
            .enumerate()
            .map(|(index, label)| Sample::file(format!("{index}").into(), label))
            .collect()
    }

    fn names(samples: &[Sample]) -> Vec<String> {
        samples.iter().map(|sample| sample.place.to_string()).collect()
    }

    #[test]
    fn a_sample_preserves_class_proportions_and_loses_nothing() {
        let (sampled, rest) = take(pool((0..100).map(|n| u32::from(n % 10 == 0))), 30, "a", "b");
        assert_eq!(sampled.iter().filter(|sample| sample.label == 1).count(), 3);
        assert_eq!((sampled.len(), rest.len()), (30, 70));
        let mut all = [names(&sampled), names(&rest)].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn a_sample_is_reproducible_and_differs_between_data_sets() {
        let sample = |set| names(&take(pool((0..60).map(|n| n % 3)), 20, set, "val").0);
        assert_eq!(sample("svhn"), sample("svhn"));
        assert_ne!(sample("svhn"), sample("dtd"));
    }

    #[test]
    fn three_images_are_enough_for_three_parts() {
        let entry = dataset("eurosat").unwrap();
        let sizes = sample_parts(entry, [pool([0, 1, 2]), pool([]), pool([])]).map(|part| part.len());
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn complete_originals_give_the_benchmark_split_sizes() {
        for (name, pools, expected) in [
            ("eurosat", [27000, 0, 0], [800, 200, 5400]),
            ("caltech101", [9144, 0, 0], [800, 200, 6084]),
            ("kitti_distance", [6347, 423, 711], [800, 200, 711]),
            ("dtd", [1880, 1880, 1880], [800, 200, 1880]),
            ("svhn", [73257, 0, 26032], [800, 200, 26032]),
            ("gic_cifar100", [50000, 0, 10000], [45000, 5000, 10000]),
            ("cub_200_2011", [5994, 0, 5794], [5394, 600, 5794]),
            ("stanford_dogs", [12000, 0, 8580], [10800, 1200, 8580]),
        ] {
            let entry = dataset(name).unwrap();
            let pools = pools.map(|len: usize| pool((0..len as u32).map(|n| n % entry.classes)));
            let sizes = sample_parts(entry, pools).map(|part| part.len());
            let close = sizes
                .iter()
                .zip(expected)
                .all(|(size, expected): (&usize, usize)| size.abs_diff(expected) <= 1);
            assert!(close, "{name}: {sizes:?}");
        }
    }
}
