//! The synthetic tasks and the pretraining stream: deterministic, balanced, disjoint, and never under a real dataset's
//! name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;

use data_loaders::{
    DatasetEntry, Filter, ImageProtocol, ImageSet, Normalisation, PretrainSet, Resize, Split,
};
use data_loaders::{SplitCounts, datasets};

const COUNTS: SplitCounts = SplitCounts { train: 80, val: 40, test: 80 };
const PROTOCOL: ImageProtocol = ImageProtocol {
    image_size: 32,
    resize: Resize::Plain,
    filter: Filter::Bilinear,
    normalisation: Normalisation::Half,
};

fn tasks() -> Vec<&'static DatasetEntry> {
    datasets().unwrap().iter().filter(|entry| entry.mini.is_some()).collect()
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn every_task_is_generated_identically_by_one_thread_and_by_three() {
    for entry in tasks() {
        let draw = || {
            let set = ImageSet::draw(entry, COUNTS, 32).unwrap();
            let mut pixels = Vec::new();
            set.read(Split::TrainVal, &[100, 3, 90, 3], &PROTOCOL, &mut pixels).unwrap();
            (set.checksum().to_owned(), pixels)
        };
        assert_eq!(with_threads(1, draw), with_threads(3, draw), "{}", entry.name);
    }
}

#[test]
fn an_image_does_not_depend_on_the_number_of_images() {
    for entry in tasks() {
        let first = |train| {
            let set = ImageSet::draw(entry, SplitCounts { train, val: 0, test: 0 }, 32).unwrap();
            let mut pixels = Vec::new();
            set.read(Split::Train, &[0, 4], &PROTOCOL, &mut pixels).unwrap();
            (pixels, set.labels(Split::Train)[..5].to_vec())
        };
        assert_eq!(first(5), first(40), "{}", entry.name);
    }
}

#[test]
fn names_mark_synthetic_data_sets() {
    for entry in tasks() {
        let set = ImageSet::draw(entry, SplitCounts { train: 1, val: 1, test: 1 }, 16).unwrap();
        assert_eq!(set.name(), format!("mini/{}", entry.name));
        assert!(set.is_synthetic() && !set.has_official_split_sizes());
    }
}

#[test]
fn every_class_is_covered_and_no_class_dominates() {
    for entry in tasks() {
        // 240 is not a multiple of 32 or of every class count: runs may be truncated, hence the tolerance.
        let set = ImageSet::draw(entry, SplitCounts { train: 240, val: 80, test: 80 }, 4).unwrap();
        let classes = set.classes() as usize;
        for split in [Split::Train, Split::Val, Split::Test] {
            let mut numbers = vec![0_usize; classes];
            set.labels(split).iter().for_each(|label| numbers[*label as usize] += 1);
            let fair = set.len(split) as f64 / classes as f64;
            // dSprites' orientation classes have two or three values each, hence the factor of 1.2 plus one image.
            let range = (fair / 1.25).floor() as usize - 1..=(fair * 1.2).ceil() as usize + 1;
            assert!(numbers.iter().all(|n| *n > 0 && range.contains(n)), "{} {numbers:?}", entry.name);
        }
    }
}

#[test]
fn class_counts_are_the_real_ones_unless_the_task_is_redefined() {
    for entry in tasks() {
        let drawn = entry.mini.unwrap().classes();
        let natural_or_aerial = [
            "cub_200_2011",
            "nabirds",
            "oxford_flowers",
            "stanford_dogs",
            "stanford_cars",
            "cifar100",
            "gic_cifar100",
            "caltech101",
            "dtd",
            "oxford_flowers102",
            "oxford_iiit_pet",
            "sun397",
            "resisc45",
        ];
        if natural_or_aerial.contains(&entry.name.as_str()) {
            assert!((10..=20).contains(&drawn), "{}", entry.name);
        } else {
            assert_eq!(drawn, entry.classes, "{}", entry.name);
        }
    }
}

#[test]
fn no_image_is_in_two_splits() {
    for entry in tasks() {
        let set = ImageSet::draw(entry, SplitCounts { train: 120, val: 40, test: 120 }, 32).unwrap();
        let pictures = |split| -> HashSet<Vec<u32>> {
            let mut pixels = Vec::new();
            let indices: Vec<usize> = (0..set.len(split)).collect();
            set.read(split, &indices, &PROTOCOL, &mut pixels).unwrap();
            pixels
                .chunks(3 * 32 * 32)
                .map(|image| image.iter().map(|value| value.to_bits()).collect())
                .collect()
        };
        let (train, val, test) = (pictures(Split::Train), pictures(Split::Val), pictures(Split::Test));
        assert!(
            train.is_disjoint(&val) && train.is_disjoint(&test) && val.is_disjoint(&test),
            "{}",
            entry.name
        );
    }
}

#[test]
fn a_synthetic_set_is_resized_if_the_protocol_has_another_size() {
    let set = ImageSet::draw(tasks()[0], COUNTS, 32).unwrap();
    let mut pixels = Vec::new();
    let protocol = ImageProtocol { image_size: 20, ..PROTOCOL };
    set.read(Split::Test, &[0, 1], &protocol, &mut pixels).unwrap();
    assert_eq!(pixels.len(), 2 * 3 * 20 * 20);
    assert!(pixels.iter().all(|value| value.abs() <= 1.0));
}

#[test]
fn an_invalid_size_and_a_data_set_without_stand_in_are_rejected() {
    assert!(ImageSet::draw(tasks()[0], COUNTS, 0).err().unwrap().to_string().contains("image size 0"));
    let mednist = data_loaders::dataset("mednist").unwrap();
    assert!(ImageSet::draw(mednist, COUNTS, 32).err().unwrap().to_string().starts_with("mednist: "));
}

#[test]
fn the_pretraining_stream_is_the_same_in_chunks_and_for_any_thread_count() {
    let set = PretrainSet::new(7, 32);
    let whole = with_threads(3, || {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        set.draw(1000, 24, &mut pixels, &mut labels);
        (pixels, labels)
    });
    let pieces = with_threads(1, || {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        set.draw(1000, 7, &mut pixels, &mut labels);
        set.draw(1007, 17, &mut pixels, &mut labels);
        (pixels, labels)
    });
    assert_eq!(whole, pieces);
    assert_eq!(whole.0.len(), 24 * 3 * 32 * 32);
}

#[test]
fn pretraining_covers_every_class_and_another_seed_gives_other_classes() {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let set = PretrainSet::new(0, 4);
    set.draw(0, 6000, &mut pixels, &mut labels);
    let seen: HashSet<u32> = labels.iter().copied().collect();
    assert_eq!(seen.len() as u32, set.classes());
    assert!((200..=400).contains(&set.classes()));
    let (mut other_pixels, mut other_labels) = (Vec::new(), Vec::new());
    PretrainSet::new(1, 4).draw(0, 6000, &mut other_pixels, &mut other_labels);
    assert_ne!(pixels, other_pixels);
}
