//! Prefetching loader: one thread processes the steps in order, and a thread pool shares the images of each batch.
//!
//! The caller chooses the images of a step; their augmentation is a function of (seed, epoch, index) and (seed, epoch,
//! step). So the batches are the same with any number of threads and from any starting step.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPoolBuilder;

use crate::error::DataError;
use crate::prefetch::Prefetch;
use crate::random::Stream;
use crate::split::Split;
use crate::transform::augment::{Augmentation, Mix, mix_pixels, soft_targets};
use crate::transform::protocol::ImageProtocol;
use crate::transform::resize::check_size;
use crate::vision::image_set::ImageSet;

/// How the images of a dataset are loaded as batches.
#[derive(Debug, Clone, Copy)]
pub struct LoaderRecipe {
    /// The split.
    pub split: Split,
    /// The preprocessing.
    pub protocol: ImageProtocol,
    /// The augmentation; `None` for none.
    pub augmentation: Option<Augmentation>,
    /// Number of threads that decode and transform; 0 for the number of processors.
    pub threads: usize,
}

/// The data of one training step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Counts from 0.
    pub epoch: u64,
    /// Number of steps before this one.
    pub step: u64,
    /// Several seeds, if runs of different seeds are trained together.
    pub parts: Vec<StepPart>,
}

/// The images of one seed in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPart {
    /// Seed of the augmentation.
    pub seed: u64,
    /// Indices into the split.
    pub indices: Vec<usize>,
}

impl Step {
    /// A step of one seed.
    pub fn single(epoch: u64, step: u64, seed: u64, indices: Vec<usize>) -> Self {
        Self { epoch, step, parts: vec![StepPart { seed, indices }] }
    }
}

/// The images of one step, those of its parts one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[batch, 3, side, side]`, normalised.
    pub pixels: Vec<f32>,
    /// The class of each image, before any mixing.
    pub labels: Vec<u32>,
    /// The soft targets, `[batch, classes]`, if the augmentation uses them.
    pub targets: Option<Vec<f32>>,
}

/// Buffers of used batches.
type Spare = Mutex<Vec<Vec<f32>>>;

/// An iterator over batches in step order, which ends after the last step or the first error.
#[derive(Debug)]
pub struct Loader {
    batches: Prefetch<Result<Batch, DataError>>,
    spare: Arc<Spare>,
}

impl Loader {
    /// Starts loading the batches of `steps`.
    ///
    /// # Errors
    /// If the operating system cannot create a thread.
    pub fn start(
        set: Arc<ImageSet>,
        recipe: LoaderRecipe,
        steps: impl Iterator<Item = Step> + Send + 'static,
    ) -> std::io::Result<Self> {
        let pool =
            ThreadPoolBuilder::new().num_threads(recipe.threads).build().map_err(std::io::Error::other)?;
        let spare = Arc::new(Spare::default());
        let returned = Arc::clone(&spare);
        let mut failed = false;
        let batches = steps.map_while(move |step| {
            if failed {
                return None;
            }
            let buffer = returned.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let batch = pool.install(|| recipe.batch_in(buffer, &set, &step));
            failed = batch.is_err();
            Some(batch)
        });
        Ok(Self { batches: Prefetch::start(batches)?, spare })
    }

    /// Recycles the buffer of a used batch.
    ///
    /// Optional. A batch of 64 photographs has 37 MiB, which the operating system would otherwise map page by page each
    /// time.
    pub fn reuse(&self, batch: Batch) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(batch.pixels);
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}

impl LoaderRecipe {
    /// Loads the batch of a step synchronously, on rayon's current pool.
    ///
    /// # Errors
    /// As [`ImageSet::read`].
    pub fn batch(&self, set: &ImageSet, step: &Step) -> Result<Batch, DataError> {
        self.batch_in(Vec::new(), set, step)
    }

    /// [`Self::batch`] in the buffer of an earlier batch.
    fn batch_in(&self, mut pixels: Vec<f32>, set: &ImageSet, step: &Step) -> Result<Batch, DataError> {
        check_size(self.protocol.image_size)?;
        let side = self.protocol.image_size as usize;
        let sample = 3 * side * side;
        let count: usize = step.parts.iter().map(|part| part.indices.len()).sum();
        // Every value is overwritten below, so leftovers of an earlier batch do not matter.
        pixels.resize(count * sample, 0.0);
        let (mut labels, mut targets) = (Vec::with_capacity(count), Vec::new());
        let mut rest = pixels.as_mut_slice();
        for part in &step.parts {
            let (own, others) = rest.split_at_mut(part.indices.len() * sample);
            rest = others;
            match &self.augmentation {
                None => set.fill(self.split, &part.indices, &self.protocol, own)?,
                Some(augmentation) => {
                    self.fill_augmented(own, set, step, part, augmentation, &mut targets)?;
                }
            }
            labels.extend(self.labels(set, part));
        }
        let softened = self.augmentation.is_some_and(|augmentation| augmentation.softens_targets());
        Ok(Batch { pixels, labels, targets: softened.then_some(targets) })
    }

    /// Writes the augmented images of a part, and adds its soft targets, if the augmentation uses them.
    fn fill_augmented(
        &self,
        pixels: &mut [f32],
        set: &ImageSet,
        step: &Step,
        part: &StepPart,
        augmentation: &Augmentation,
        targets: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        let side = self.protocol.image_size as usize;
        let place = (part.seed, step.epoch);
        set.fill_augmented(self.split, &part.indices, &self.protocol, augmentation, place, pixels)?;
        let mut stream = Stream::new("mix", &[part.seed, step.epoch, step.step]);
        let mix = Mix::draw(augmentation, side, &mut stream);
        mix_pixels(pixels, side, &mix);
        if augmentation.softens_targets() {
            let labels: Vec<u32> = self.labels(set, part).collect();
            let share = mix.own_share(side);
            targets.extend(soft_targets(&labels, set.classes(), share, augmentation.label_smoothing));
        }
        Ok(())
    }

    /// The indices were checked when the images were read.
    fn labels<'a>(&self, set: &'a ImageSet, part: &'a StepPart) -> impl Iterator<Item = u32> + 'a {
        let all = set.labels(self.split);
        part.indices.iter().map(|index| all[*index])
    }
}
