//! The training and evaluation of a group of classification runs: batches from the loader or from kept features, logits,
//! metrics.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use backbones::vision::Classifier;
use data_loaders::{BatchStep, Loader, StepPart};
use report::record::Dataset;
use san_core::Trainables;
use san_core::random::permutation;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use super::inputs::{Inputs, SharedReads, repeated};
use super::part_accuracies::Parts;
use super::{Classification, backbone_of};
use crate::io::predictions;
use crate::io::transfer::to_device;
use crate::models::LoadedBackbone;
use crate::resources::Resources;
use crate::tasks::{EvalScores, PreparedTask, Run, Times, Tuned, dataset};
use crate::train::log::EpochMetrics;
use crate::train::signals::StopFlag;
use crate::train::task::{Schedule, StepExamples, StepPosition, TrainTask};
use crate::train::trainer::RunControl;

/// Images per forward pass of an evaluation, over all runs: what a GPU needs, and what fits into a processor's cache.
const EVALUATION_BATCH_ON_GPU: usize = 256;
const EVALUATION_BATCH_ON_CPU: usize = 64;
/// Images on which merged and unmerged logits are compared.
const MERGE_CHECK: usize = 32;
/// Name of the score.
const METRIC: &str = "top-1 accuracy";

/// Images per forward pass of an evaluation.
pub(super) fn evaluation_batch(on_gpu: bool) -> usize {
    if on_gpu { EVALUATION_BATCH_ON_GPU } else { EVALUATION_BATCH_ON_CPU }
}

/// Classification with the data and the model of a group of runs.
pub(super) struct Prepared<'a> {
    pub(super) protocol: &'a Classification,
    pub(super) runs: &'a [Run],
    pub(super) reads: SharedReads,
    pub(super) model: Classifier,
    pub(super) inputs: Inputs,
    pub(super) test_inputs: Inputs,
    /// The loader of image batches, and the step of its next batch.
    pub(super) loader: Option<(Loader, u64)>,
    /// The batch of the current step.
    pub(super) batch: Option<(Tensor, Targets)>,
    /// Models over the same trained tensors of one run, by its index, that are evaluated after each epoch, if the
    /// protocol requests it.
    pub(super) parts: Option<(usize, Parts)>,
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
    /// The mean loss of each of `stack` runs, `[stack]`.
    fn losses(&self, logits: &Tensor, stack: i64) -> Result<Tensor> {
        let (Self::Classes(targets) | Self::Shares(targets)) = self;
        let losses = logits.f_cross_entropy_loss(targets, None::<Tensor>, Reduction::None, -100, 0.0)?;
        Ok(losses.f_view([stack, -1])?.f_mean_dim(1, false, None::<Kind>)?)
    }
}

impl TrainTask for Prepared<'_> {
    fn steps(&self, epoch: u64) -> Vec<StepExamples> {
        let by_run: Vec<_> =
            self.runs.iter().map(|run| batches(run, run.seed, self.inputs.len(), epoch)).collect();
        let steps = by_run.first().map_or(0, Vec::len);
        (0..steps).map(|step| by_run.iter().map(|batches| batches[step].clone()).collect()).collect()
    }

    fn schedule(&self, learning_rate: f64, steps: &[u64]) -> Schedule {
        self.protocol.schedule.of(learning_rate, self.protocol.warmup_epochs, steps)
    }

    fn load(&mut self, examples: &[Vec<usize>], position: StepPosition) -> Result<()> {
        let start = Instant::now();
        let indices = self.reads.of_seeds(examples).collect::<Vec<_>>().concat();
        let (inputs, targets) = if let Some(inputs) = self.inputs.on_device(&indices)? {
            let all = self.inputs.labels();
            (inputs, self.classes(indices.iter().map(|&index| all[index]))?)
        } else {
            let batch = self.loaded(position)?;
            let targets = match &batch.targets {
                Some(shares) => {
                    let shares = Tensor::f_from_slice(shares)?.f_view([indices.len() as i64, -1])?;
                    Targets::Shares(self.reads.stack(&shares.f_to_device(self.inputs.device)?)?)
                }
                None => self.classes(batch.labels.iter().copied())?,
            };
            let images = self.inputs.images(&batch)?;
            if let Some((loader, _)) = &self.loader {
                loader.reuse(batch);
            }
            (images, targets)
        };
        self.batch = Some((self.reads.stack(&inputs)?, targets));
        self.inputs.data_wait += start.elapsed();
        Ok(())
    }

    fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        let (inputs, targets) = self.batch.as_ref().context("no batch has been loaded")?;
        let logits = logits(&self.model, inputs, self.inputs.features.is_some());
        let losses = targets.losses(&logits, trainables.stack())?;
        let gradient = trainables.gradient(&losses.f_sum(None::<Kind>)?)?;
        Ok((losses.f_detach()?, gradient))
    }

    fn after_epoch(&mut self, epoch: u64, stop: &StopFlag) -> Result<Option<Vec<EpochMetrics>>> {
        let epochs = self.runs[0].protocol.epochs;
        if !(self.protocol.test_selected.is_due(epoch + 1, epochs) || self.parts.is_some()) {
            return Ok(None);
        }
        let stack = self.runs.len() as i64;
        let Self { model, parts, test_inputs, times, .. } = self;
        let mut accuracies = |model: &Classifier, stack: i64| -> Result<Vec<Option<f64>>> {
            let predictions = predict(model, test_inputs, stack, &mut times.evaluation, stop)?;
            let accuracy = |predictions: Option<Vec<i64>>| Some(test_inputs.accuracy(&predictions?));
            Ok(predictions.into_iter().map(accuracy).collect())
        };
        let of_run = |test_accuracy| EpochMetrics { test_accuracy, ..EpochMetrics::default() };
        let mut metrics: Vec<EpochMetrics> = accuracies(model, stack)?.into_iter().map(of_run).collect();
        if let Some((run, parts)) = parts {
            let mut of_part = |model: &Classifier| Ok(accuracies(model, 1)?.pop().flatten());
            metrics[*run].part_accuracies = parts.accuracies(&mut of_part)?;
        }
        Ok(Some(metrics))
    }

    /// The time that the steps waited for their data; loading in the background costs nothing here.
    fn data_wait(&self) -> Duration {
        self.inputs.data_wait
    }
}

/// The images of each step of an epoch for a seed.
fn batches(run: &Run, seed: u64, images: usize, epoch: u64) -> Vec<Vec<usize>> {
    let order = permutation(seed, &format!("order of epoch {epoch}"), images);
    order.chunks(run.protocol.batch_size).map(<[usize]>::to_vec).collect()
}

/// Logits of images, or of features.
fn logits(model: &Classifier, inputs: &Tensor, are_features: bool) -> Tensor {
    if are_features { model.head(inputs) } else { model.forward(inputs) }
}

impl Prepared<'_> {
    /// The labels of each seed's samples as the targets of each run's.
    fn classes(&self, labels: impl Iterator<Item = u32>) -> Result<Targets> {
        let labels: Vec<i64> = labels.map(i64::from).collect();
        let labels = to_device(&Tensor::f_from_slice(&labels)?, self.inputs.device)?;
        Ok(Targets::Classes(self.reads.stack(&labels)?))
    }

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
        let (run, seeds, images) = (self.runs[0].clone(), self.reads.seeds().to_vec(), self.inputs.len());
        let steps_per_epoch = images.div_ceil(run.protocol.batch_size) as u64;
        let done = usize::try_from(position.step - position.epoch * steps_per_epoch)?;
        let all = (position.epoch..run.protocol.epochs).flat_map(move |epoch| {
            let mut by_seed: Vec<_> =
                seeds.iter().map(|&seed| (seed, batches(&run, seed, images, epoch).into_iter())).collect();
            (epoch * steps_per_epoch..(epoch + 1) * steps_per_epoch).map(move |step| {
                let parts = by_seed
                    .iter_mut()
                    .filter_map(|(seed, batches)| Some(StepPart { seed: *seed, indices: batches.next()? }));
                BatchStep { epoch, step, parts: parts.collect() }
            })
        });
        self.inputs.loader(self.protocol.augmentation, all.skip(done))
    }

    /// Largest difference between the logits of each fine-tuned and merged model on a few images; `None` if the method
    /// cannot be merged.
    fn merge_differences(&mut self, tuned: &Tuned<'_>, runs: &[(usize, &Path)]) -> Result<Vec<Option<f64>>> {
        let LoadedBackbone { architecture, model_spec, .. } = backbone_of(tuned.base)?;
        let images = self.test_inputs.first_images(MERGE_CHECK)?;
        let stack = tuned.trainables.stack();
        let inputs = match &self.test_inputs.features {
            Some(features) => features.f_narrow(0, 0, images.size()[0])?,
            None => images.shallow_clone(),
        };
        let inputs = repeated(&inputs, stack)?;
        let tuned_logits = no_grad(|| logits(&self.model, &inputs, self.test_inputs.features.is_some()))
            .f_chunk(stack, 0)?;
        let difference = |(run, _): &(usize, &Path)| -> Result<Option<f64>> {
            let Some(merged) = tuned.merged(i64::try_from(*run)?)? else { return Ok(None) };
            let plain = Classifier::merged(&**architecture, model_spec, &merged)?;
            let difference = no_grad(|| plain.forward(&images) - &tuned_logits[*run]);
            Ok(Some(f64::try_from(difference.f_abs()?.f_max()?)?))
        };
        runs.iter().map(difference).collect()
    }
}

impl PreparedTask for Prepared<'_> {
    fn before_training(
        &mut self,
        tuned: &Tuned<'_>,
        resources: &mut Resources,
        control: &mut RunControl<'_>,
    ) -> Result<()> {
        let stop = control.stop;
        let Self { runs, model, inputs, test_inputs, times, .. } = self;
        // Augmented images differ between epochs: neither they nor their features can be computed once.
        let is_augmented = self.protocol.augmentation.is_some();
        if tuned.device != Device::Cpu {
            test_inputs.keep_on_device(&mut resources.images, stop)?;
            if !is_augmented {
                inputs.keep_on_device(&mut resources.images, stop)?;
            }
        }
        if tuned.method.features_are_frozen() && !is_augmented {
            let features = &mut resources.features;
            times.preparation += inputs.become_features(&runs[0], features, model, stop)?;
            times.evaluation += test_inputs.become_features(&runs[0], features, model, stop)?;
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        tuned: &Tuned<'_>,
        runs: &[(usize, &Path)],
        stop: &StopFlag,
    ) -> Result<Vec<Option<EvalScores>>> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let differences = self.merge_differences(tuned, runs)?;
        let Self { model, test_inputs, times, .. } = self;
        let stack = tuned.trainables.stack();
        let predictions = predict(model, test_inputs, stack, &mut times.evaluation, stop)?;
        let labels: Vec<i64> = test_inputs.labels().iter().map(|&label| label.into()).collect();
        let scores = |((run, folder), merge_difference): (&(usize, &Path), Option<f64>)| {
            let is_finite = merge_difference.is_none_or(f64::is_finite);
            let Some(predictions) = predictions[*run].as_ref().filter(|_| is_finite) else { return Ok(None) };
            predictions::write(&folder.join(predictions::FILE), &labels, predictions)?;
            Ok(Some(EvalScores {
                score: Some(test_inputs.accuracy(predictions)),
                metric: METRIC.into(),
                merge_difference,
                ..EvalScores::default()
            }))
        };
        runs.iter().zip(differences).map(scores).collect()
    }

    fn dataset(&self, _: Option<&EvalScores>) -> Result<Dataset> {
        let (set, run) = (&self.test_inputs.set, &self.runs[0]);
        let dataset = dataset(&run.set_label(), set.entry(), self.test_inputs.len(), &run.data_checksum)?;
        let train = u32::try_from(self.inputs.len())?;
        Ok(Dataset { classes: set.classes(), train, source: Some(set.split_label().to_owned()), ..dataset })
    }

    fn times(&self) -> Times {
        Times { data_wait: self.inputs.data_wait + self.test_inputs.data_wait, ..self.times }
    }
}

/// The class of every image of the split that each of `stack` runs predicts, the last partial batch included; `None` if
/// a logit is not finite: the argmax would then be the first class, which is right for some images.
fn predict(
    model: &Classifier,
    inputs: &mut Inputs,
    stack: i64,
    time: &mut Duration,
    stop: &StopFlag,
) -> Result<Vec<Option<Vec<i64>>>> {
    let are_features = inputs.features.is_some();
    let (mut classes, mut finite) = (Vec::new(), Vec::new());
    let most = evaluation_batch(inputs.device != Device::Cpu);
    let images_per_pass = (most / usize::try_from(stack)?.max(1)).max(1);
    inputs.for_each_batch(images_per_pass, stop, |images| {
        let start = Instant::now();
        let logits = no_grad(|| -> Result<Tensor> {
            Ok(logits(model, &repeated(images, stack)?, are_features).f_view([
                stack,
                images.size()[0],
                -1,
            ])?)
        })?;
        finite.push(logits.f_isfinite()?.f_flatten(1, 2)?.f_all_dim(1, false)?);
        classes.push(logits.f_argmax(2, false)?);
        *time += start.elapsed();
        Ok(())
    })?;
    let start = Instant::now();
    let classes = Tensor::f_cat(&classes, 1)?.f_to_device(Device::Cpu)?;
    let finite: Vec<bool> =
        Vec::try_from(Tensor::f_stack(&finite, 0)?.f_all_dim(0, false)?.f_to_device(Device::Cpu)?)?;
    let predictions = (0..stack).zip(finite).map(|(run, finite)| {
        let predictions = Vec::<i64>::try_from(classes.f_get(run)?)?;
        Ok(finite.then_some(predictions))
    });
    let predictions = predictions.collect();
    *time += start.elapsed();
    predictions
}
