//! One cell: train, evaluate, merge, write.
//!
//! The order of images and every initial value are functions of (seed, purpose); a run depends on
//! nothing that ran before it in the same process, and goes on from a checkpoint bit for bit.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use backbones::Classifier;
use data_loaders::{ImageSet, Split};
use report::record::{Metrics, Stage, State};
use san_core::adapter_file::{self, AdapterHeader};
use san_core::branch::Pass;
use san_core::merge::merge;
use san_core::methods::{self, Method};
use san_core::optimiser::{AdamW, AdamWSettings};
use san_core::random::permutation;
use san_core::schedule::Cosine;
use san_core::trainables::Group;
use san_core::{Attachment, Trainables};
use tch::{Device, Kind, Tensor, no_grad};

use crate::cell::Cell;
use crate::checkpoint::{CheckpointFile, Progress};
use crate::context::{Context, Features, LoadedBackbone};
use crate::error::RunError;
use crate::files::write_atomically;
use crate::signals::StopFlag;

/// Images in one forward pass of an evaluation.
const EVALUATION_BATCH: usize = 256;
/// Images in one forward pass that computes features: few, to stop soon after a signal.
const FEATURE_BATCH: usize = 64;

/// Images on which merged and unmerged scores are compared.
const MERGE_CHECK: usize = 32;

/// The splits that a stage trains on and reads.
pub fn splits(stage: Stage) -> (Split, Split) {
    match stage {
        Stage::Tune => (Split::Train, Split::Val),
        Stage::Final => (Split::TrainVal, Split::Test),
    }
}

/// What a cell found and what it cost.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub state: State,
    /// What was measured.
    pub metrics: Metrics,
    /// Training, without evaluation and reading.
    pub training: Duration,
    /// Evaluation, without reading.
    pub evaluation: Duration,
    /// Reading and decoding.
    pub reading: Duration,
    /// Bytes of the adapter file.
    pub adapter_bytes: u64,
    /// Trained parameters without head, and those of the head.
    pub trained: (i64, i64),
}

/// Trains and evaluates `cell` and writes its adapter and predictions into `folder`.
///
/// `progress` is told (steps done, steps in all). A checkpoint is gone on from, written every so often,
/// and written when a signal asks to stop.
///
/// # Errors
/// When data or weights cannot be read, the folder cannot be written, or a signal asked to stop. A loss
/// that is not finite is no error: the outcome is [`State::Diverged`].
pub fn execute(
    cell: &Cell,
    context: &mut Context,
    folder: &Path,
    stop: &StopFlag,
    checkpoint: &CheckpointFile,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Outcome> {
    let mut run = Run::prepare(cell, context)?;
    if let Some(progress) = checkpoint.restore(&run.trainables, &mut run.optimiser)? {
        run.progress = progress;
    }
    let result = run.carry_out(context, folder, stop, checkpoint, progress);
    if matches!(&result, Err(error) if error.is::<RunError>()) && run.progress.steps > 0 {
        // A signal, or a disk that cannot be written: what was trained is kept if that is possible.
        run.save(checkpoint)?;
    }
    let (state, predictions, adapter_bytes) = result?;
    Ok(run.into_outcome(state, predictions, adapter_bytes))
}

impl Run<'_> {
    /// Everything from the first batch to the last file.
    fn carry_out(
        &mut self,
        context: &mut Context,
        folder: &Path,
        stop: &StopFlag,
        checkpoint: &CheckpointFile,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(State, Option<Vec<i64>>, u64)> {
        if self.method.features_are_frozen() {
            self.feature_time += self.train_inputs.become_features(self.cell, context, &self.model, stop)?;
            self.evaluation += self.test_inputs.become_features(self.cell, context, &self.model, stop)?;
        }
        let state = self.train(stop, checkpoint, progress)?;
        let predictions = match state {
            State::Finished => Some(self.evaluate(stop)?),
            State::Diverged => None,
        };
        if let Some(predictions) = &predictions {
            write_atomically(&folder.join("predictions.csv"), self.table(predictions).as_bytes())?;
        }
        let adapter_bytes = self.write_adapter(folder)?;
        Ok((state, predictions, adapter_bytes))
    }

    fn save(&self, checkpoint: &CheckpointFile) -> Result<()> {
        let mut progress = self.progress.clone();
        progress.reading += self.train_inputs.reading;
        checkpoint.save(&progress, &self.trainables, &self.optimiser)
    }
}

/// A cell in memory.
struct Run<'a> {
    cell: &'a Cell,
    method: Box<dyn Method>,
    backbone: Rc<LoadedBackbone>,
    trainables: Trainables,
    attachment: Attachment,
    model: Classifier,
    train_inputs: Inputs,
    test_inputs: Inputs,
    optimiser: AdamW,
    progress: Progress,
    merge_difference: Option<f64>,
    /// Time of the forward passes that made features of the training images.
    feature_time: Duration,
    evaluation: Duration,
}

impl<'a> Run<'a> {
    fn prepare(cell: &'a Cell, context: &mut Context) -> Result<Self> {
        let size = cell.protocol.image.image_size;
        let set = context.set(&cell.set, &cell.data, size)?;
        let backbone = context.backbone(&cell.backbone, size)?;
        let method = cell.method()?;
        let LoadedBackbone { architecture, layout, weights, .. } = &*backbone;
        let device = context.device();
        let classes = i64::from(set.classes());
        let (trainables, attachment) =
            methods::prepare(&*method, layout, weights, classes, &[cell.seed], device)?;
        let model = Classifier::new(&**architecture, layout, weights, &attachment, &trainables)?;
        let weight_decay = cell.protocol.weight_decay;
        let optimiser = AdamW::new(&trainables, AdamWSettings { weight_decay, ..AdamWSettings::default() })?;
        let (train, test) = splits(cell.stage);
        let inputs = |split| Inputs::new(set.clone(), split, cell, device);
        Ok(Self {
            train_inputs: inputs(train),
            test_inputs: inputs(test),
            cell,
            method,
            backbone,
            trainables,
            attachment,
            model,
            optimiser,
            progress: Progress::default(),
            merge_difference: None,
            feature_time: Duration::ZERO,
            evaluation: Duration::ZERO,
        })
    }

    fn train(
        &mut self,
        stop: &StopFlag,
        checkpoint: &CheckpointFile,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<State> {
        let protocol = &self.cell.protocol;
        let images = self.train_inputs.len();
        let steps_per_epoch = images.div_ceil(protocol.batch_size) as u64;
        let steps = protocol.epochs * steps_per_epoch;
        let schedule = Cosine {
            base: self.cell.learning_rate,
            warmup_start: self.cell.learning_rate * 0.1,
            warmup_steps: protocol.warmup_epochs * steps_per_epoch,
            floor: 1e-8,
            steps,
        };
        let mut saved = Instant::now();
        for epoch in self.progress.losses.len() as u64..protocol.epochs {
            let order = permutation(self.cell.seed, &format!("order of epoch {epoch}"), images);
            let done = usize::try_from(self.progress.steps - epoch * steps_per_epoch)?;
            for batch in order.chunks(protocol.batch_size).skip(done) {
                stop.check()?;
                if saved.elapsed() >= checkpoint.every() {
                    self.save(checkpoint)?;
                    saved = Instant::now();
                }
                let (inputs, labels) = self.train_inputs.batch(batch)?;
                let start = Instant::now();
                let Some(loss) = self.step(&inputs, &labels, schedule.rate(self.progress.steps))? else {
                    return Ok(State::Diverged);
                };
                self.progress.training += start.elapsed();
                self.progress.steps += 1;
                #[allow(clippy::cast_precision_loss)]
                {
                    self.progress.sum += loss * batch.len() as f64;
                }
                progress(self.progress.steps, steps);
            }
            #[allow(clippy::cast_precision_loss)]
            self.progress.losses.push(self.progress.sum / images as f64);
            self.progress.sum = 0.0;
        }
        Ok(State::Finished)
    }

    /// One step; none, and no change, where loss or gradient is not finite.
    fn step(&mut self, inputs: &Tensor, labels: &Tensor, rate: f64) -> Result<Option<f64>> {
        let depth = &self.attachment.stochastic_depth;
        let rate_of_depth = self.cell.protocol.drop_path;
        depth.set(Some(Pass { rate: rate_of_depth, seeds: vec![self.cell.seed], step: self.progress.steps }));
        let loss = self.train_inputs.scores(&self.model, inputs).cross_entropy_for_logits(labels);
        depth.set(None);
        let gradient = self.trainables.gradient(&loss)?;
        let value = f64::try_from(&loss)?;
        let norm = f64::try_from(gradient.f_norm()?)?;
        if !value.is_finite() || !norm.is_finite() {
            return Ok(None);
        }
        self.optimiser.step(&self.trainables, &gradient, rate)?;
        Ok(Some(value))
    }

    /// The predicted class of every image of the split, the last partial batch included.
    fn evaluate(&mut self, stop: &StopFlag) -> Result<Vec<i64>> {
        let plain = self.merged()?;
        let indices: Vec<usize> = (0..self.test_inputs.len()).collect();
        let mut predictions = Vec::with_capacity(indices.len());
        for (number, batch) in indices.chunks(EVALUATION_BATCH).enumerate() {
            stop.check()?;
            let (inputs, _) = self.test_inputs.batch(batch)?;
            let start = Instant::now();
            let scores = no_grad(|| self.test_inputs.scores(&self.model, &inputs));
            predictions.extend(Vec::<i64>::try_from(scores.f_argmax(1, false)?.f_to_device(Device::Cpu)?)?);
            self.evaluation += start.elapsed();
            if let (0, Some(plain)) = (number, &plain) {
                let few = &batch[..batch.len().min(MERGE_CHECK)];
                let images = self.test_inputs.images(few)?;
                let difference = no_grad(|| plain.forward(&images) - scores.narrow(0, 0, few.len() as i64));
                self.merge_difference = Some(f64::try_from(difference.abs().max())?);
            }
        }
        Ok(predictions)
    }

    /// The model of merged weights, where the method can be merged.
    fn merged(&self) -> Result<Option<Classifier>> {
        if self.method.unmergeable().is_some() {
            return Ok(None);
        }
        let LoadedBackbone { architecture, layout, weights, .. } = &*self.backbone;
        let merged = merge(layout, weights, &self.attachment, &self.trainables, 0)?;
        Ok(Some(Classifier::merged(&**architecture, layout, &merged)?))
    }

    fn table(&self, predictions: &[i64]) -> String {
        let rows = self.test_inputs.labels().iter().zip(predictions).enumerate();
        let row =
            |(index, (label, predicted)): (usize, (&u32, &i64))| format!("{index},{label},{predicted}\n");
        std::iter::once("index,label,predicted\n".to_owned()).chain(rows.map(row)).collect()
    }

    fn write_adapter(&self, folder: &Path) -> Result<u64> {
        let header = AdapterHeader {
            method: self.cell.method.clone(),
            options: self.method.options(),
            backbone: self.cell.backbone.clone(),
            base_checksum: self.backbone.checksum.clone(),
            classes: i64::from(self.test_inputs.set.classes()),
        };
        Ok(adapter_file::write(&folder.join(report::record::ADAPTER_FILE), &header, &self.trainables)?)
    }

    fn into_outcome(self, state: State, predictions: Option<Vec<i64>>, adapter_bytes: u64) -> Outcome {
        #[allow(clippy::cast_precision_loss)]
        let accuracy = predictions.map(|predictions| {
            let pairs = self.test_inputs.labels().iter().zip(&predictions);
            let right = pairs.filter(|(label, predicted)| i64::from(**label) == **predicted).count();
            right as f64 / predictions.len() as f64
        });
        let count = |head: bool| -> i64 {
            let specs = self.trainables.iter().map(|(spec, _)| spec);
            specs.filter(|spec| (spec.group == Group::Head) == head).map(|spec| spec.count()).sum()
        };
        Outcome {
            state,
            trained: (count(false), count(true)),
            metrics: Metrics {
                accuracy,
                train_loss: self.progress.losses.last().copied(),
                merge_difference: self.merge_difference,
                loss_history: self.progress.losses,
                steps: self.progress.steps,
                test_selected: None,
                no_answer: None,
                forgetting: None,
                evaluations: Vec::new(),
            },
            training: self.progress.training + self.feature_time,
            evaluation: self.evaluation,
            reading: self.progress.reading + self.train_inputs.reading + self.test_inputs.reading,
            adapter_bytes,
        }
    }
}

/// The inputs of one split: images, or features where nothing before the head learns.
struct Inputs {
    set: Rc<ImageSet>,
    split: Split,
    protocol: data_loaders::ImageProtocol,
    device: Device,
    features: Option<Tensor>,
    reading: Duration,
}

impl Inputs {
    fn new(set: Rc<ImageSet>, split: Split, cell: &Cell, device: Device) -> Self {
        let protocol = cell.protocol.image;
        Self { set, split, protocol, device, features: None, reading: Duration::ZERO }
    }

    fn labels(&self) -> &[u32] {
        self.set.labels(self.split)
    }

    fn len(&self) -> usize {
        self.set.len(self.split)
    }

    /// Images `[n, 3, size, size]`, or features `[n, features]`, and labels `[n]`.
    fn batch(&mut self, indices: &[usize]) -> Result<(Tensor, Tensor)> {
        let all = self.labels();
        let labels: Vec<i64> = indices.iter().map(|&index| i64::from(all[index])).collect();
        let labels = Tensor::from_slice(&labels).f_to_device(self.device)?;
        let inputs = match &self.features {
            Some(features) => {
                let rows: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
                features.f_index_select(0, &Tensor::from_slice(&rows).f_to_device(self.device)?)?
            }
            None => self.images(indices)?,
        };
        Ok((inputs, labels))
    }

    fn images(&mut self, indices: &[usize]) -> Result<Tensor> {
        let start = Instant::now();
        let size = i64::from(self.protocol.image_size);
        let mut pixels = Vec::new();
        self.set.read(self.split, indices, &self.protocol, &mut pixels)?;
        let images = Tensor::from_slice(&pixels).f_view([-1, 3, size, size])?.f_to_device(self.device)?;
        self.reading += start.elapsed();
        Ok(images)
    }

    /// Replaces the images by what the head reads of them, computed once for all cells that share them;
    /// returns the time that the computation took then.
    fn become_features(
        &mut self,
        cell: &Cell,
        context: &mut Context,
        model: &Classifier,
        stop: &StopFlag,
    ) -> Result<Duration> {
        let key = format!(
            "{} {} {:?} {:?}",
            cell.data_checksum, cell.weights_checksum, self.split, cell.protocol.image
        );
        if let Some(known) = context.features(&key) {
            self.features = Some(known.tensor.shallow_clone());
            self.reading += known.reading;
            return Ok(known.computing);
        }
        let indices: Vec<usize> = (0..self.len()).collect();
        let mut parts = Vec::new();
        let start = Instant::now();
        for batch in indices.chunks(FEATURE_BATCH) {
            stop.check()?;
            let images = self.images(batch)?;
            parts.push(no_grad(|| model.features(&images)));
        }
        let tensor = Tensor::f_cat(&parts, 0)?.f_to_kind(Kind::Float)?;
        self.features = Some(tensor.shallow_clone());
        let computing = start.elapsed().saturating_sub(self.reading);
        context.remember_features(key, Features { tensor, computing, reading: self.reading });
        Ok(computing)
    }

    fn scores(&self, model: &Classifier, inputs: &Tensor) -> Tensor {
        if self.features.is_some() { model.head(inputs) } else { model.forward(inputs) }
    }
}
