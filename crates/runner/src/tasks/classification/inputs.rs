//! The inputs of a classifier for one split: images, or the features that a frozen backbone computes from them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use backbones::vision::Classifier;
use data_loaders::{Augmentation, Batch, BatchStep, ImageProtocol, ImageSet, Loader, LoaderRecipe, Split};
use tch::{Device, Kind, Tensor, no_grad};

use crate::io::transfer::to_device;
use crate::resources::{DeviceImages, FeatureCache, Features, normalised};
use crate::tasks::Run;
use crate::train::signals::StopFlag;

/// Images per forward pass when features are computed: few, so that it stops soon after a signal.
const FEATURE_BATCH: usize = 64;

/// The inputs of one split: images, or features if nothing before the head is trained.
pub(super) struct Inputs {
    pub(super) set: Arc<ImageSet>,
    pub(super) split: Split,
    pub(super) protocol: ImageProtocol,
    pub(super) device: Device,
    pub(super) features: Option<Tensor>,
    /// All images as bytes on the device, `[images, size, size, 3]`, if they fit.
    kept: Option<Tensor>,
    pub(super) data_wait: Duration,
}

impl Inputs {
    pub(super) fn new(set: Arc<ImageSet>, split: Split, protocol: ImageProtocol, device: Device) -> Self {
        Self { set, split, protocol, device, features: None, kept: None, data_wait: Duration::ZERO }
    }

    pub(super) fn labels(&self) -> &[u32] {
        self.set.labels(self.split)
    }

    /// Share of the labels that are predicted correctly.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn accuracy(&self, predictions: &[i64]) -> f64 {
        let pairs = self.labels().iter().zip(predictions);
        let right = pairs.filter(|(label, predicted)| i64::from(**label) == **predicted).count();
        right as f64 / predictions.len() as f64
    }

    pub(super) fn len(&self) -> usize {
        self.set.len(self.split)
    }

    /// Loads the images of some steps ahead of their use.
    pub(super) fn loader(
        &self,
        augmentation: Option<Augmentation>,
        steps: impl Iterator<Item = BatchStep> + Send + 'static,
    ) -> Result<Loader> {
        let recipe = LoaderRecipe { split: self.split, protocol: self.protocol, augmentation, threads: 0 };
        Ok(Loader::start(Arc::clone(&self.set), recipe, steps)?)
    }

    /// The pixels of a batch on the device, `[batch, 3, size, size]`.
    pub(super) fn images(&self, batch: &Batch) -> Result<Tensor> {
        let size = i64::from(self.protocol.image_size);
        Ok(Tensor::f_from_slice(&batch.pixels)?.f_view([-1, 3, size, size])?.f_to_device(self.device)?)
    }

    /// Reads all images of the split to the device once, for all runs that use them, if they fit.
    pub(super) fn keep_on_device(&mut self, images: &mut DeviceImages, stop: &StopFlag) -> Result<()> {
        let start = Instant::now();
        self.kept =
            images.of_split(&self.set, self.split, &self.protocol, self.device, &|| Ok(stop.check()?))?;
        self.data_wait += start.elapsed();
        Ok(())
    }

    /// The inputs of some samples that are on the device already: features, or images; `None` if they are to be loaded.
    pub(super) fn on_device(&self, indices: &[usize]) -> Result<Option<Tensor>> {
        let Some(all) = self.features.as_ref().or(self.kept.as_ref()) else { return Ok(None) };
        let rows: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
        let rows = to_device(&Tensor::f_from_slice(&rows)?, self.device)?;
        let some = all.f_index_select(0, &rows)?;
        Ok(Some(if self.features.is_some() { some } else { normalised(&some, &self.protocol)? }))
    }

    /// Calls `act` with the inputs of each batch of `size` samples of the split, in order: images, or features.
    pub(super) fn for_each_batch(
        &mut self,
        size: usize,
        stop: &StopFlag,
        mut act: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<()> {
        if let Some(all) = self.features.as_ref().or(self.kept.as_ref()) {
            return all.f_split(i64::try_from(size)?, 0)?.iter().try_for_each(|some| {
                stop.check()?;
                match self.features {
                    Some(_) => act(some),
                    None => act(&normalised(some, &self.protocol)?),
                }
            });
        }
        let count = self.len();
        let steps = (0..count).step_by(size).zip(0..).map(move |(first, step)| {
            BatchStep::single(0, step, 0, (first..count.min(first + size)).collect())
        });
        let mut loader = self.loader(None, steps)?;
        loop {
            stop.check()?;
            let start = Instant::now();
            let Some(batch) = loader.next() else { return Ok(()) };
            let batch = batch?;
            let images = self.images(&batch)?;
            loader.reuse(batch);
            self.data_wait += start.elapsed();
            act(&images)?;
        }
    }

    /// The images of the first `count` samples.
    pub(super) fn first_images(&mut self, count: usize) -> Result<Tensor> {
        let start = Instant::now();
        let step = BatchStep::single(0, 0, 0, (0..count.min(self.len())).collect());
        let batch = self.loader(None, std::iter::once(step))?.next().context("the loader has no batch")??;
        let images = self.images(&batch)?;
        self.data_wait += start.elapsed();
        Ok(images)
    }

    /// Replaces the images by the head's input features, computed once for all runs that share them; returns the time
    /// of the original computation.
    pub(super) fn become_features(
        &mut self,
        run: &Run,
        features: &mut FeatureCache,
        model: &Classifier,
        stop: &StopFlag,
    ) -> Result<Duration> {
        let key =
            format!("{} {} {:?} {:?}", run.data_checksum, run.weights_checksum, self.split, self.protocol);
        if let Some(known) = features.get(&key) {
            self.features = Some(known.tensor.shallow_clone());
            self.data_wait += known.data_wait;
            return Ok(known.computing);
        }
        let mut parts = Vec::new();
        let start = Instant::now();
        self.for_each_batch(FEATURE_BATCH, stop, |images| {
            parts.push(no_grad(|| model.features(images)));
            Ok(())
        })?;
        let tensor = Tensor::f_cat(&parts, 0)?.f_to_kind(Kind::Float)?;
        self.features = Some(tensor.shallow_clone());
        let computing = start.elapsed().saturating_sub(self.data_wait);
        features.insert(key, Features { tensor, computing, data_wait: self.data_wait });
        Ok(computing)
    }
}

/// Which images the runs of a group read: those of the same seed read the same ones, once.
pub(super) struct SharedReads {
    seeds: Vec<u64>,
    /// The first run of each seed.
    first: Vec<usize>,
    /// The position in `seeds` of each run's seed; `None` if all differ.
    seed_of_run: Option<Tensor>,
}

impl SharedReads {
    pub(super) fn of(runs: &[Run], device: Device) -> Result<Self> {
        let (mut seeds, mut first, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (index, run) in runs.iter().enumerate() {
            let known = seeds.iter().position(|seed| *seed == run.seed);
            places.push(known.unwrap_or(seeds.len()) as i64);
            if known.is_none() {
                seeds.push(run.seed);
                first.push(index);
            }
        }
        let shared = seeds.len() < runs.len();
        let seed_of_run = shared.then(|| Tensor::f_from_slice(&places)?.f_to_device(device)).transpose()?;
        Ok(Self { seeds, first, seed_of_run })
    }

    /// The seeds, each once.
    pub(super) fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// The examples of each seed, from those of each run.
    pub(super) fn of_seeds<'a>(&self, examples: &'a [Vec<usize>]) -> impl Iterator<Item = &'a [usize]> {
        self.first.iter().map(|&run| &examples[run][..])
    }

    /// From the samples of each seed, `[seeds * batch, ...]`, to those of each run, `[K * batch, ...]`.
    pub(super) fn stack(&self, samples: &Tensor) -> Result<Tensor> {
        let Some(seed_of_run) = &self.seed_of_run else { return Ok(samples.shallow_clone()) };
        let mut shape = samples.size();
        shape[0] /= self.seeds.len() as i64;
        let by_seed = samples.f_view([&[self.seeds.len() as i64], &shape[..]].concat().as_slice())?;
        Ok(by_seed.f_index_select(0, seed_of_run)?.f_flatten(0, 1)?)
    }
}

/// The same samples `[batch, ...]` for each of `stack` runs, `[stack * batch, ...]`.
pub(super) fn repeated(samples: &Tensor, stack: i64) -> Result<Tensor> {
    if stack == 1 {
        return Ok(samples.shallow_clone());
    }
    let shape = [&[stack], &samples.size()[..]].concat();
    Ok(samples.f_unsqueeze(0)?.f_expand(&shape, false)?.f_flatten(0, 1)?)
}
