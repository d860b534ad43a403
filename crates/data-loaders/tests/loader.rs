//! The loader: the same batches with any number of threads and from any starting step, errors in their place, and
//! bounded prefetching.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::write_grey;
use data_loaders::{
    Augmentation, Batch, BatchStep, DataError, Filter, ImageProtocol, ImageSet, Loader, LoaderRecipe,
    Normalisation, Resize, Split, SplitCounts, StepPart, dataset,
};

const PROTOCOL: ImageProtocol = ImageProtocol {
    image_size: 24,
    resize: Resize::Plain,
    filter: Filter::Bilinear,
    normalisation: Normalisation::Half,
};

fn synthetic_set() -> Arc<ImageSet> {
    let counts = SplitCounts { train: 20, val: 2, test: 2 };
    Arc::new(ImageSet::draw(dataset("svhn").unwrap(), counts, 32).unwrap())
}

fn steps() -> impl Iterator<Item = BatchStep> + Send + 'static {
    (0..9_usize).map(|step| {
        let indices = (0..5).map(|place| (step * 5 + place * 7) % 20).collect();
        BatchStep::single(step as u64 / 3, step as u64, 3, indices)
    })
}

fn recipe(augmentation: Option<Augmentation>, threads: usize) -> LoaderRecipe {
    LoaderRecipe { split: Split::Train, protocol: PROTOCOL, augmentation, threads }
}

fn batches(set: &Arc<ImageSet>, recipe: LoaderRecipe, skip: usize) -> Vec<Batch> {
    Loader::start(Arc::clone(set), recipe, steps().skip(skip)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn one_and_eight_threads_make_the_same_batches_from_any_step() {
    let set = synthetic_set();
    for augmentation in [None, Some(Augmentation::default())] {
        let single_threaded = batches(&set, recipe(augmentation, 1), 0);
        assert_eq!(single_threaded.len(), 9);
        assert!(single_threaded == batches(&set, recipe(augmentation, 8), 0));
        assert!(single_threaded[4..] == batches(&set, recipe(augmentation, 8), 4));
    }
}

#[test]
fn augmented_batches_depend_on_seed_epoch_and_index_and_have_soft_targets() {
    let set = synthetic_set();
    let image_alone =
        Augmentation { mixup: 0.0, cutmix: 0.0, label_smoothing: 0.0, ..Augmentation::default() };
    let batch = |seed, epoch, indices: &[usize]| {
        let step = BatchStep::single(epoch, 0, seed, indices.to_vec());
        recipe(Some(image_alone), 0).batch(&set, &step).unwrap()
    };
    let (both, swapped) = (batch(1, 0, &[3, 4]), batch(1, 0, &[4, 3]));
    let image = both.pixels.len() / 2;
    assert!(both.pixels[..image] == swapped.pixels[image..] && both.targets.is_none());
    assert!(both.pixels != batch(2, 0, &[3, 4]).pixels && both.pixels != batch(1, 1, &[3, 4]).pixels);

    for batch in batches(&set, recipe(Some(Augmentation::default()), 2), 0) {
        let targets = batch.targets.unwrap();
        assert_eq!(targets.len(), 5 * set.classes() as usize);
        let right = targets.chunks(set.classes() as usize).zip(&batch.labels);
        assert!(right.clone().all(|(row, _)| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
        assert!(right.clone().all(|(row, label)| row[*label as usize] >= row[0].min(row[1])));
    }
}

#[test]
fn a_step_of_several_seeds_holds_the_batches_of_each() {
    let set = synthetic_set();
    for augmentation in [None, Some(Augmentation::default())] {
        let recipe = recipe(augmentation, 2);
        let part = |seed, indices: &[usize]| StepPart { seed, indices: indices.to_vec() };
        let parts = [part(1, &[3, 4, 9]), part(2, &[5, 4])];
        let step = |parts: &[StepPart]| BatchStep { epoch: 2, step: 7, parts: parts.to_vec() };
        let both = recipe.batch(&set, &step(&parts)).unwrap();
        let [first, second] = parts.map(|part| recipe.batch(&set, &step(&[part])).unwrap());
        assert!(both.pixels == [first.pixels, second.pixels].concat());
        assert_eq!(both.labels, [first.labels, second.labels].concat());
        let targets = first.targets.zip(second.targets).map(|(first, second)| [first, second].concat());
        assert_eq!(both.targets, targets);
    }
}

#[test]
fn a_damaged_image_is_an_error_in_order_and_ends_the_iterator() {
    let root = tempfile::tempdir().unwrap();
    for (part, count) in [("train", 20_u8), ("test", 10)] {
        for class in 0..10 {
            for number in 0..count / 10 {
                let path = root.path().join(format!("svhn/{part}/{class}/{number}.png"));
                write_grey(&path, 10 * (class + 1));
            }
        }
    }
    let set = Arc::new(ImageSet::open(dataset("svhn").unwrap(), root.path()).unwrap());
    std::fs::write(root.path().join("svhn/test/4/0.png"), b"no image").unwrap();
    let steps = (0..10).map(|index| BatchStep::single(0, index as u64, 0, vec![index]));
    let recipe = LoaderRecipe { split: Split::Test, protocol: PROTOCOL, augmentation: None, threads: 4 };
    let read: Vec<_> = Loader::start(set, recipe, steps).unwrap().collect();
    assert_eq!(read.len(), 5);
    assert!(read[..4].iter().all(Result::is_ok));
    assert!(matches!(&read[4], Err(DataError::BadImage { path, .. }) if path.ends_with("test/4/0.png")));
}

#[test]
fn only_a_few_batches_are_prefetched() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let steps = (0..1000).map(move |step| {
        counter.fetch_add(1, Ordering::SeqCst);
        BatchStep::single(0, step, 0, vec![0])
    });
    let mut loader = Loader::start(synthetic_set(), recipe(None, 1), steps).unwrap();
    loader.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    // One was taken, two are waiting, one is blocked at the channel.
    assert!(taken.load(Ordering::SeqCst) <= 4, "{taken:?}");
    drop(loader);
    assert!(taken.load(Ordering::SeqCst) <= 5, "{taken:?}");
}
