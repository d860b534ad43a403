//! The training and evaluation of one classification run: batches from the loader or from kept features, logits, metrics.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use backbones::vision::Classifier;
use data_loaders::{BatchStep, Loader, LoaderRecipe};
use report::record::Dataset;
use san_core::random::permutation;
use san_core::train::schedule::Cosine;
use san_core::{Error, Trainables};
use tch::{Device, Reduction, Tensor, no_grad};

use super::inputs::Inputs;
use super::part_accuracies::Parts;
use super::{Classification, backbone_of};
use crate::io::predictions;
use crate::models::LoadedBackbone;
use crate::resources::FeatureCache;
use crate::tasks::{EvalScores, PreparedTask, Run, Times, Tuned, dataset};
use crate::train::log::EpochMetrics;
use crate::train::signals::StopFlag;
use crate::train::trainer::{StepPosition, TrainTask, is_finite};

/// Images per forward pass of an evaluation.
const EVALUATION_BATCH: usize = 256;
/// Images on which merged and unmerged logits are compared.
const MERGE_CHECK: usize = 32;
/// Name of the score.
const METRIC: &str = "top-1 accuracy";

/// Classification with the data and the model of one run.
pub(super) struct Prepared<'a> {
    pub(super) protocol: &'a Classification,
    pub(super) run: &'a Run,
    pub(super) model: Classifier,
    pub(super) inputs: Inputs,
    pub(super) test_inputs: Inputs,
    /// The loader of image batches, and the step of its next batch.
    pub(super) loader: Option<(Loader, u64)>,
    /// The batch of the current step.
    pub(super) batch: Option<(Tensor, Targets)>,
    /// Models over the same trained tensors that are evaluated after each epoch, if the protocol requests it.
    pub(super) parts: Option<Parts>,
    pub(super) times: Times,
}

/// The targets of a batch's logits.
pub(super) enum Targets {
    /// Classes `[n]`.
    Classes(Tensor),
    /// The probability of each class, `[n, classes]`.
    Shares(Tensor),
}

impl Targets {
    fn loss(&self, logits: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(classes) => logits.cross_entropy_for_logits(classes),
            Self::Shares(shares) => {
                logits.f_cross_entropy_loss(shares, None::<Tensor>, Reduction::Mean, -100, 0.0)?
            }
        })
    }
}

impl TrainTask for Prepared<'_> {
    fn steps(&self, epoch: u64) -> Vec<Vec<usize>> {
        steps(self.run, self.inputs.len(), epoch)
    }

    fn schedule(&self, learning_rate: f64, steps: &[u64]) -> Box<dyn Fn(u64) -> f64> {
        let warmup = usize::try_from(self.protocol.warmup_epochs).unwrap_or(usize::MAX);
        let schedule = Cosine {
            base: learning_rate,
            warmup_start: learning_rate * 0.1,
            warmup_steps: steps.iter().take(warmup).sum(),
            floor: 1e-8,
            steps: steps.iter().sum(),
        };
        Box::new(move |step| schedule.rate(step))
    }

    fn load(&mut self, examples: &[usize], position: StepPosition) -> Result<()> {
        if self.inputs.features.is_some() {
            let (inputs, labels) = self.inputs.batch(examples)?;
            self.batch = Some((inputs, Targets::Classes(labels)));
            return Ok(());
        }
        let start = Instant::now();
        let batch = self.loaded(position)?;
        let device = self.inputs.device;
        let size = i64::from(self.inputs.protocol.image_size);
        let images = Tensor::from_slice(&batch.pixels).f_view([-1, 3, size, size])?.f_to_device(device)?;
        let targets = if let Some(shares) = &batch.targets {
            let count = i64::try_from(batch.labels.len())?;
            Targets::Shares(Tensor::from_slice(shares).f_view([count, -1])?.f_to_device(device)?)
        } else {
            let labels: Vec<i64> = batch.labels.iter().map(|&label| i64::from(label)).collect();
            Targets::Classes(Tensor::from_slice(&labels).f_to_device(device)?)
        };
        if let Some((loader, _)) = &self.loader {
            loader.reuse(batch);
        }
        self.inputs.data_wait += start.elapsed();
        self.batch = Some((images, targets));
        Ok(())
    }

    fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        let (inputs, targets) = self.batch.as_ref().context("no batch has been loaded")?;
        let loss = targets.loss(&self.inputs.logits(&self.model, inputs))?;
        let gradient = trainables.gradient(&loss)?;
        Ok((loss, gradient))
    }

    fn after_epoch(&mut self, stop: &StopFlag) -> Result<EpochMetrics> {
        let mut metrics = EpochMetrics::default();
        if !(self.protocol.test_selected || self.parts.is_some()) {
            return Ok(metrics);
        }
        let Self { model, parts, test_inputs, times, .. } = self;
        let mut accuracy = |model: &Classifier| -> Result<Option<f64>> {
            let predictions = predict(model, test_inputs, &mut times.evaluation, stop)?;
            Ok(predictions.map(|predictions| test_inputs.accuracy(&predictions)))
        };
        metrics.test_accuracy = accuracy(model)?;
        metrics.part_accuracies = parts.as_ref().map_or(Ok(None), |parts| parts.accuracies(&mut accuracy))?;
        Ok(metrics)
    }

    /// The time that the steps waited for their data; loading in the background costs nothing here.
    fn data_wait(&self) -> Duration {
        self.inputs.data_wait
    }
}

/// The images of each step of an epoch.
fn steps(run: &Run, images: usize, epoch: u64) -> Vec<Vec<usize>> {
    let order = permutation(run.seed, &format!("order of epoch {epoch}"), images);
    order.chunks(run.protocol.batch_size).map(<[usize]>::to_vec).collect()
}

impl Prepared<'_> {
    /// The batch of a step; prefetched if the last one was that of the previous step.
    fn loaded(&mut self, position: StepPosition) -> Result<data_loaders::Batch> {
        let mut loader = match self.loader.take() {
            Some((loader, next)) if next == position.step => loader,
            _ => self.start_loader(position)?,
        };
        let batch = loader.next().context("the loader has no batch left")??;
        self.loader = Some((loader, position.step + 1));
        Ok(batch)
    }

    /// A loader of all steps from a given position on.
    fn start_loader(&self, position: StepPosition) -> Result<Loader> {
        let Inputs { set, split, protocol, .. } = &self.inputs;
        let augmentation = self.protocol.augmentation.map(|augmentation| (augmentation, self.run.seed));
        let recipe = LoaderRecipe { split: *split, protocol: *protocol, augmentation, threads: 0 };
        let (run, images) = (self.run.clone(), self.inputs.len());
        let steps_per_epoch = images.div_ceil(run.protocol.batch_size) as u64;
        let done = usize::try_from(position.step - position.epoch * steps_per_epoch)?;
        let all = (position.epoch..run.protocol.epochs).flat_map(move |epoch| {
            let numbered = (epoch * steps_per_epoch..).zip(steps(&run, images, epoch));
            numbered.map(move |(step, indices)| BatchStep { epoch, step, indices })
        });
        Ok(Loader::start(Arc::clone(set), recipe, all.skip(done))?)
    }

    /// Largest difference between the logits of the fine-tuned and of the merged model on a few images.
    fn merge_difference(&mut self, tuned: &Tuned<'_>) -> Result<Option<f64>> {
        let Some(merged) = tuned.merged()? else { return Ok(None) };
        let LoadedBackbone { architecture, model_spec, .. } = backbone_of(tuned.base)?;
        let plain = Classifier::merged(&**architecture, model_spec, &merged)?;
        let few: Vec<usize> = (0..self.test_inputs.len().min(MERGE_CHECK)).collect();
        let (inputs, _) = self.test_inputs.batch(&few)?;
        let images = self.test_inputs.images(&few)?;
        let difference = no_grad(|| plain.forward(&images) - self.test_inputs.logits(&self.model, &inputs));
        let difference = f64::try_from(difference.abs().max())?;
        if difference.is_finite() {
            Ok(Some(difference))
        } else {
            Err(Error::NotFinite { what: "a logit" }.into())
        }
    }
}

impl PreparedTask for Prepared<'_> {
    fn before_training(
        &mut self,
        tuned: &Tuned<'_>,
        features: &mut FeatureCache,
        stop: &StopFlag,
    ) -> Result<()> {
        // Augmented images differ between epochs, so their features cannot be computed once.
        if tuned.method.features_are_frozen() && self.protocol.augmentation.is_none() {
            let Self { run, model, inputs, test_inputs, times, .. } = self;
            times.preparation += inputs.become_features(run, features, model, stop)?;
            times.evaluation += test_inputs.become_features(run, features, model, stop)?;
        }
        Ok(())
    }

    fn evaluate(&mut self, tuned: &Tuned<'_>, folder: &Path, stop: &StopFlag) -> Result<EvalScores> {
        let merge_difference = self.merge_difference(tuned)?;
        let Self { model, test_inputs, times, .. } = self;
        let predictions = predict(model, test_inputs, &mut times.evaluation, stop)?
            .ok_or(Error::NotFinite { what: "a logit" })?;
        let labels: Vec<i64> = test_inputs.labels().iter().map(|&label| label.into()).collect();
        predictions::write(&folder.join(predictions::FILE), &labels, &predictions)?;
        Ok(EvalScores {
            score: Some(test_inputs.accuracy(&predictions)),
            metric: METRIC.into(),
            merge_difference,
            ..EvalScores::default()
        })
    }

    fn dataset(&self, _: Option<&EvalScores>) -> Result<Dataset> {
        let set = &self.test_inputs.set;
        let dataset =
            dataset(&self.run.set_label(), set.entry(), self.test_inputs.len(), &self.run.data_checksum)?;
        Ok(Dataset { classes: set.classes(), train: u32::try_from(self.inputs.len())?, ..dataset })
    }

    fn times(&self) -> Times {
        Times { data_wait: self.inputs.data_wait + self.test_inputs.data_wait, ..self.times }
    }
}

/// The predicted class of every image of the split, the last partial batch included; `None` if a logit is not finite:
/// the argmax would then be the first class, which is right for some images.
fn predict(
    model: &Classifier,
    inputs: &mut Inputs,
    time: &mut Duration,
    stop: &StopFlag,
) -> Result<Option<Vec<i64>>> {
    let indices: Vec<usize> = (0..inputs.len()).collect();
    let mut predictions = Vec::with_capacity(indices.len());
    let mut finite = true;
    for batch in indices.chunks(EVALUATION_BATCH) {
        stop.check()?;
        let (images, _) = inputs.batch(batch)?;
        let start = Instant::now();
        let logits = no_grad(|| inputs.logits(model, &images));
        finite = finite && is_finite(&logits)?;
        predictions.extend(Vec::<i64>::try_from(logits.f_argmax(1, false)?.f_to_device(Device::Cpu)?)?);
        *time += start.elapsed();
    }
    Ok(finite.then_some(predictions))
}
