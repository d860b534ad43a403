//! Cells of images: a classifier over a tuned backbone.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use backbones::Classifier;
use data_loaders::{BatchStep, ImageProtocol, Loader, LoaderRecipe};
use report::record::{Dataset, Metrics, Stage, State};
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::adapters::merge::merge;
use san_core::methods::{self, Method};
use san_core::random::permutation;
use san_core::train::schedule::Cosine;
use san_core::{Attachment, Trainables};
use tch::{Device, Reduction, Tensor, no_grad};

use crate::io::predictions;
use crate::plan::cell::Cell;
use crate::resources::context::{Context, LoadedBackbone};
use crate::tasks::inputs::Inputs;
use crate::tasks::{Outcome, parameters, require_planned_data, require_planned_weights, splits};
use crate::train::log::{EpochReading, PartAccuracies};
use crate::train::signals::StopFlag;
use crate::train::trainer::{Learner, Objective, Place, Session, is_finite};

/// Images in one forward pass of an evaluation.
const EVALUATION_BATCH: usize = 256;
/// Images on which merged and unmerged scores are compared.
const MERGE_CHECK: usize = 32;

/// See [`crate::tasks::execute`].
pub(super) fn execute(
    cell: &Cell,
    image: &ImageProtocol,
    context: &mut Context,
    folder: &Path,
    session: &mut Session<'_>,
) -> Result<Outcome> {
    let mut run = session.stop.interruptible(|| Run::prepare(cell, image, context))?;
    run.learner.restore(session.checkpoint)?;
    match run.carry_out(context, folder, session) {
        Ok((state, predictions, adapter_bytes)) => run.into_outcome(state, predictions, adapter_bytes),
        Err(error) => {
            run.learner.keep(&error, &run.task, session.checkpoint)?;
            Err(error)
        }
    }
}

/// A cell in memory.
struct Run<'a> {
    cell: &'a Cell,
    method: Box<dyn Method>,
    backbone: Rc<LoadedBackbone>,
    learner: Learner,
    task: Task<'a>,
    merge_difference: Option<f64>,
    /// Time of the forward passes that made features of the training images.
    feature_time: Duration,
}

/// What is learnt from, images, or their features, and classes, and what is read.
struct Task<'a> {
    cell: &'a Cell,
    attachment: Attachment,
    model: Classifier,
    inputs: Inputs,
    test_inputs: Inputs,
    /// What makes the batches of images, and the step whose batch comes next.
    loader: Option<(Loader, u64)>,
    /// Models over the same trained tensors that are read after each epoch, where the protocol asks.
    readings: Option<Readings>,
    evaluation: Duration,
}

/// One trained SAN, read in parts.
struct Readings {
    nt: Classifier,
    sp: Classifier,
    head: Classifier,
}

/// What the scores of a batch should be.
enum Targets {
    /// Classes `[n]`.
    Classes(Tensor),
    /// The share of each class, `[n, classes]`.
    Shares(Tensor),
}

impl Targets {
    fn loss(&self, scores: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(classes) => scores.cross_entropy_for_logits(classes),
            Self::Shares(shares) => {
                scores.f_cross_entropy_loss(shares, None::<Tensor>, Reduction::Mean, -100, 0.0)?
            }
        })
    }
}

impl Objective for Task<'_> {
    type Batch = (Tensor, Targets);

    fn steps(&self, epoch: u64) -> Vec<Vec<usize>> {
        steps(self.cell, self.inputs.len(), epoch)
    }

    fn batch(&mut self, examples: &[usize], place: Place) -> Result<Self::Batch> {
        if self.inputs.features.is_some() {
            let (inputs, labels) = self.inputs.batch(examples)?;
            return Ok((inputs, Targets::Classes(labels)));
        }
        let start = Instant::now();
        let batch = self.loaded(place)?;
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
        self.inputs.reading += start.elapsed();
        Ok((images, targets))
    }

    fn gradient(&self, (inputs, targets): &Self::Batch, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        let loss = targets.loss(&self.inputs.scores(&self.model, inputs))?;
        let gradient = trainables.gradient(&loss)?;
        Ok((loss, gradient))
    }

    fn after_epoch(&mut self, stop: &StopFlag) -> Result<EpochReading> {
        let protocol = &self.cell.protocol;
        let mut reading = EpochReading::default();
        let mut read = |model| -> Result<Option<f64>> {
            let predictions = predict(model, &mut self.test_inputs, &mut self.evaluation, stop)?;
            Ok(predictions.map(|predictions| self.test_inputs.accuracy(&predictions)))
        };
        if protocol.test_selected || self.readings.is_some() {
            reading.test_accuracy = read(&self.model)?;
        }
        if let Some(Readings { nt, sp, head }) = &self.readings
            && let (Some(nt), Some(sp), Some(head)) = (read(nt)?, read(sp)?, read(head)?)
        {
            reading.readings = Some(PartAccuracies { nt, sp, head });
        }
        Ok(reading)
    }

    /// The time that the steps waited for their data; what was made meanwhile costs nothing here.
    fn reading(&self) -> Duration {
        self.inputs.reading
    }
}

/// The images of each step of an epoch.
fn steps(cell: &Cell, images: usize, epoch: u64) -> Vec<Vec<usize>> {
    let order = permutation(cell.seed, &format!("order of epoch {epoch}"), images);
    order.chunks(cell.protocol.batch_size).map(<[usize]>::to_vec).collect()
}

impl Task<'_> {
    /// The batch of a step, made ahead where the last one was that of the step before.
    fn loaded(&mut self, place: Place) -> Result<data_loaders::Batch> {
        let mut loader = match self.loader.take() {
            Some((loader, next)) if next == place.step => loader,
            _ => self.start_loader(place)?,
        };
        let batch = loader.next().context("the loader has no batch left")??;
        self.loader = Some((loader, place.step + 1));
        Ok(batch)
    }

    /// A loader of all steps from a place on.
    fn start_loader(&self, place: Place) -> Result<Loader> {
        let Inputs { set, split, protocol, .. } = &self.inputs;
        let augmentation = self.cell.protocol.augmentation.map(|augmentation| (augmentation, self.cell.seed));
        let recipe = LoaderRecipe { split: *split, protocol: *protocol, augmentation, threads: 0 };
        let (cell, images) = (self.cell.clone(), self.inputs.len());
        let steps_per_epoch = images.div_ceil(cell.protocol.batch_size) as u64;
        let done = usize::try_from(place.step - place.epoch * steps_per_epoch)?;
        let all = (place.epoch..cell.protocol.epochs).flat_map(move |epoch| {
            let numbered = (epoch * steps_per_epoch..).zip(steps(&cell, images, epoch));
            numbered.map(move |(step, indices)| BatchStep { epoch, step, indices })
        });
        Ok(Loader::start(Arc::clone(set), recipe, all.skip(done))?)
    }
}

/// The predicted class of every image of the split, the last partial batch included; none where a logit is not finite:
/// the first class would then be predicted, and earn its share.
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
        let scores = no_grad(|| inputs.scores(model, &images));
        finite = finite && is_finite(&scores)?;
        predictions.extend(Vec::<i64>::try_from(scores.f_argmax(1, false)?.f_to_device(Device::Cpu)?)?);
        *time += start.elapsed();
    }
    Ok(finite.then_some(predictions))
}

impl<'a> Run<'a> {
    fn prepare(cell: &'a Cell, image: &ImageProtocol, context: &mut Context) -> Result<Self> {
        let size = image.image_size;
        let set = context.set(&cell.set, &cell.data, size)?;
        require_planned_data(cell, set.checksum())?;
        let backbone = context.backbone(&cell.backbone, size)?;
        require_planned_weights(cell, &backbone.checksum)?;
        let method = cell.method()?;
        let LoadedBackbone { architecture, layout, weights, .. } = &*backbone;
        let device = context.device();
        let classes = i64::from(set.classes());
        let (trainables, attachment) =
            methods::prepare(&*method, &[], layout, weights, classes, &[cell.seed], device)?;
        attachment.stochastic_depth.set_rate(cell.protocol.drop_path);
        let model = Classifier::new(&**architecture, layout, weights, &attachment, &trainables)?;
        let (train, test) = splits(cell.stage);
        let inputs = |split| Inputs::new(set.clone(), split, *image, device);
        let readings = readings(cell, &*method, &backbone, &trainables)?;
        let (inputs, test_inputs) = (inputs(train), inputs(test));
        let evaluation = Duration::ZERO;
        Ok(Self {
            task: Task { cell, attachment, model, inputs, test_inputs, loader: None, readings, evaluation },
            cell,
            method,
            backbone,
            learner: Learner::new(trainables, cell.protocol.weight_decay)?,
            merge_difference: None,
            feature_time: Duration::ZERO,
        })
    }

    /// Everything from the first batch to the last file.
    fn carry_out(
        &mut self,
        context: &mut Context,
        folder: &Path,
        session: &mut Session<'_>,
    ) -> Result<(State, Option<Vec<i64>>, u64)> {
        // Features of images that change from epoch to epoch cannot be computed once.
        if self.method.features_are_frozen() && self.cell.protocol.augmentation.is_none() {
            let Task { model, inputs, test_inputs, evaluation, .. } = &mut self.task;
            self.feature_time += inputs.become_features(self.cell, context, model, session.stop)?;
            *evaluation += test_inputs.become_features(self.cell, context, model, session.stop)?;
        }
        let rate = self.schedule();
        let epochs = self.cell.protocol.epochs;
        let trained = self.learner.train(&mut self.task, epochs, &|step| rate.rate(step), session)?;
        let predictions = match trained {
            State::Finished => self.evaluate(session.stop)?,
            State::Diverged => None,
        };
        let state = if predictions.is_some() { State::Finished } else { State::Diverged };
        if let Some(predictions) = &predictions {
            let labels: Vec<i64> = self.task.test_inputs.labels().iter().map(|&label| label.into()).collect();
            predictions::write(&folder.join(predictions::FILE), &labels, predictions)?;
        }
        let adapter_bytes = self.write_adapter(folder)?;
        self.learner.publish_log(folder)?;
        Ok((state, predictions, adapter_bytes))
    }

    fn schedule(&self) -> Cosine {
        let protocol = &self.cell.protocol;
        let steps_per_epoch = self.task.inputs.len().div_ceil(protocol.batch_size) as u64;
        Cosine {
            base: self.cell.learning_rate,
            warmup_start: self.cell.learning_rate * 0.1,
            warmup_steps: protocol.warmup_epochs * steps_per_epoch,
            floor: 1e-8,
            steps: protocol.epochs * steps_per_epoch,
        }
    }

    /// The predicted classes, none where the model diverged; merged weights are compared on the way.
    fn evaluate(&mut self, stop: &StopFlag) -> Result<Option<Vec<i64>>> {
        let plain = self.merged()?;
        let Task { model, test_inputs, evaluation, .. } = &mut self.task;
        if let Some(plain) = &plain {
            let few: Vec<usize> = (0..test_inputs.len().min(MERGE_CHECK)).collect();
            let (inputs, _) = test_inputs.batch(&few)?;
            let images = test_inputs.images(&few)?;
            let difference = no_grad(|| plain.forward(&images) - test_inputs.scores(model, &inputs));
            let difference = f64::try_from(difference.abs().max())?;
            if !difference.is_finite() {
                return Ok(None);
            }
            self.merge_difference = Some(difference);
        }
        predict(model, test_inputs, evaluation, stop)
    }

    /// The model of merged weights, where the method can be merged.
    fn merged(&self) -> Result<Option<Classifier>> {
        if self.method.unmergeable().is_some() {
            return Ok(None);
        }
        let LoadedBackbone { architecture, layout, weights, .. } = &*self.backbone;
        let merged = merge(layout, weights, &self.task.attachment, &self.learner.trainables, 0)?;
        Ok(Some(Classifier::merged(&**architecture, layout, &merged)?))
    }

    fn write_adapter(&self, folder: &Path) -> Result<u64> {
        let header = AdapterHeader {
            method: self.cell.method.clone(),
            options: self.method.options(),
            backbone: self.cell.backbone.clone(),
            base_checksum: self.backbone.checksum.clone(),
            classes: i64::from(self.task.test_inputs.set.classes()),
        };
        Ok(adapter_file::write(
            &folder.join(report::record::ADAPTER_FILE),
            &header,
            &self.learner.trainables,
        )?)
    }

    fn dataset(&self) -> Result<Dataset> {
        let entry = self.task.test_inputs.set.entry();
        let count = |inputs: &Inputs| u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        Ok(Dataset {
            name: self.cell.set_label(),
            group: serde_json::to_value(entry.group)?.as_str().unwrap_or_default().to_owned(),
            order: entry.order,
            classes: self.task.test_inputs.set.classes(),
            train: count(&self.task.inputs),
            test: count(&self.task.test_inputs),
            checksum: self.cell.data_checksum.clone(),
        })
    }

    fn into_outcome(
        self,
        state: State,
        predictions: Option<Vec<i64>>,
        adapter_bytes: u64,
    ) -> Result<Outcome> {
        let accuracy = predictions.map(|predictions| self.task.test_inputs.accuracy(&predictions));
        let dataset = self.dataset()?;
        let progress = self.learner.progress;
        Ok(Outcome {
            state,
            dataset,
            parameters: parameters(&self.backbone.layout, &self.learner.trainables),
            metrics: Metrics {
                accuracy,
                train_loss: progress.losses.last().copied(),
                merge_difference: self.merge_difference,
                loss_history: progress.losses,
                steps: progress.steps,
                test_selected: progress.test_selected.filter(|_| self.cell.stage == Stage::Final),
                no_answer: None,
                forgetting: None,
                truncation: None,
                evaluations: Vec::new(),
                pending: Vec::new(),
            },
            training: progress.training + self.feature_time,
            evaluation: self.task.evaluation,
            reading: progress.reading + self.task.inputs.reading + self.task.test_inputs.reading,
            adapter_bytes,
        })
    }
}

/// The models of [`Readings`], where the protocol asks and the method is SAN in both modes.
fn readings(
    cell: &Cell,
    method: &dyn Method,
    backbone: &LoadedBackbone,
    trainables: &Trainables,
) -> Result<Option<Readings>> {
    let serde_json::Value::Object(options) = method.options() else { return Ok(None) };
    if !cell.protocol.readings || cell.method != "san" || options["mode"] != "both" {
        return Ok(None);
    }
    let LoadedBackbone { architecture, layout, weights, .. } = backbone;
    let classifier =
        |attachment: &Attachment| Classifier::new(&**architecture, layout, weights, attachment, trainables);
    let in_mode = |mode: &str| -> Result<Classifier> {
        let mut options = options.clone();
        options.insert("mode".into(), mode.into());
        if mode == "nt" {
            // What acts on p alone has no meaning there.
            options.insert("ltd_ltp".into(), false.into());
            options.insert("detach".into(), false.into());
        }
        Ok(classifier(&methods::find("san", options)?.attach(layout, weights, trainables)?)?)
    };
    Ok(Some(Readings { nt: in_mode("nt")?, sp: in_mode("sp")?, head: classifier(&Attachment::default())? }))
}
