//! Image classification: a trained head on a fine-tuned vision backbone.

mod inputs;
mod part_accuracies;
mod prepared;

use std::num::NonZeroU64;

use anyhow::Result;
use backbones::step_memory::{self, Need};
use backbones::vision::Classifier;
use data_loaders::{Augmentation, ImageProtocol, ImageSettings, dataset};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Kind;

use self::inputs::{Inputs, SharedReads};
use self::part_accuracies::Parts;
use self::prepared::Prepared;
use crate::error::RunError;
use crate::models::{BaseModel, LoadedBackbone, NamedArchitecture};
use crate::resources::{DataSets, DataSource, Models, Resources};
use crate::tasks::need::with_training;
use crate::tasks::schedule::ScheduleProtocol;
use crate::tasks::{
    Amounts, DataSizes, GroupShape, ImageAmounts, PreparedTask, Run, SetRow, Task, Times, Tuned, Unit,
    UnitData, splits,
};

/// Classes of a set that is not in the registry, for the size of its head.
const CLASSES_OF_OTHER_SETS: i64 = 1000;

/// The protocol of classification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// How an image becomes the model's input; what is omitted is as in the training of the model's weights.
    #[serde(default, skip_serializing_if = "ImageSettings::is_empty")]
    pub image: ImageSettings,
    /// Epochs of linear warm-up; cosine decay follows.
    #[serde(default)]
    pub warmup_epochs: u64,
    /// The other numbers of the schedule.
    #[serde(default, skip_serializing_if = "ScheduleProtocol::is_default")]
    pub schedule: ScheduleProtocol,
    /// Stochastic depth: the probability, below 1, that the last block's branches are dropped in a training pass; it
    /// grows linearly from 0 at the first block.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drop_path: f64,
    /// Whether, or after which epochs, the test split is evaluated, to report a test-selected accuracy, as other papers do,
    /// next to the table's; nothing is selected by it.
    #[serde(default, skip_serializing_if = "TestSelected::is_off")]
    pub test_selected: TestSelected,
    /// The run of SAN that is also evaluated after each epoch with its parts alone (neuron, synapse, head), for the
    /// figure of learning curves; none if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_accuracies: Option<EvaluatedRun>,
    /// Data augmentation of training images; none if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
}

/// After which epochs the test split is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`test_selected` must be true, false, or {every: <epochs>}")]
pub enum TestSelected {
    /// After all, or none.
    Always(bool),
    /// After some.
    Every(EveryEpochs),
}

/// Every few epochs, and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EveryEpochs {
    /// The number of epochs.
    pub every: NonZeroU64,
}

impl Default for TestSelected {
    fn default() -> Self {
        Self::Always(false)
    }
}

impl TestSelected {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the split is evaluated after `done` of `epochs` epochs.
    fn is_due(self, done: u64, epochs: u64) -> bool {
        match self {
            Self::Always(always) => always,
            Self::Every(EveryEpochs { every }) => done.is_multiple_of(every.get()) || done == epochs,
        }
    }
}

/// One run of a method, by data set and seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluatedRun {
    /// Name of the data set.
    pub set: String,
    /// The seed.
    pub seed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Task for Classification {
    fn name(&self) -> &'static str {
        "classification"
    }

    fn check(&self, epochs: u64) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.drop_path) {
            return Err("`drop_path` must be at least 0 and below 1".into());
        }
        if self.warmup_epochs >= epochs {
            return Err("`warmup_epochs` must be below `epochs`".into());
        }
        self.schedule.check(self.warmup_epochs, epochs).map_err(|reason| format!("schedule: {reason}"))?;
        let Some((augmentation, size)) = self.augmentation.as_ref().zip(self.image.image_size) else {
            return Ok(());
        };
        augmentation.check(size).map_err(|reason| format!("augmentation: {reason}"))
    }

    fn recorded_schedule(&self) -> Value {
        self.schedule.recorded()
    }

    fn units(&self, _: &str, sets: &[String]) -> Vec<Unit> {
        sets.iter().map(|set| Unit { set: set.clone(), sets: Vec::new() }).collect()
    }

    fn describe(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<UnitData> {
        let size = self.image()?.image_size;
        let set = data.images(&unit.set, source, size)?;
        let checksum = data.images_checksum(&set, size);
        let row = SetRow {
            name: set.name().to_owned(),
            counts: set.counts(),
            classes: Some(set.classes()),
            source: Some(set.split_label()),
        };
        Ok(UnitData { checksum, sets: vec![row], mixture: 0 })
    }

    fn check_samples(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<()> {
        Ok(data.images(&unit.set, source, self.image()?.image_size)?.check_images()?)
    }

    fn base_model(&self, name: &str, _: Kind, models: &mut Models) -> Result<BaseModel> {
        Ok(BaseModel::Vision(models.backbone(name, self.image()?.image_size)?))
    }

    fn classes(&self, run: &Run, data: &mut DataSets) -> Result<i64> {
        Ok(data.images(&run.set, &run.data, self.image()?.image_size)?.classes().into())
    }

    fn need(&self, run: &Run, model: &NamedArchitecture, shape: GroupShape) -> Result<Need> {
        let NamedArchitecture::Vision(vision) = model else {
            anyhow::bail!("classification needs a vision backbone")
        };
        let vision = vision.at_image_size(self.image()?.image_size.into())?;
        let known =
            dataset(&run.set).ok().map(|entry| i64::from(entry.classes)).filter(|classes| *classes > 0);
        let classes = known.unwrap_or(CLASSES_OF_OTHER_SETS);
        let batch = i64::try_from(run.protocol.batch_size)?;
        let evaluated = i64::try_from(prepared::evaluation_batch(shape.on_gpu))?;
        with_training(run, self, shape, |training| {
            Ok(step_memory::classifier(&*vision, classes, [batch, evaluated], training)?)
        })
    }

    fn amounts(&self, run: &Run, sizes: &DataSizes, _: Option<&mut Resources>) -> Result<Amounts> {
        let (trained, evaluated) = sizes.of_stage(&run.set, run.stage);
        let of_parts = self
            .part_accuracies
            .as_ref()
            .is_some_and(|one| (&one.set, one.seed, run.method.as_str()) == (&run.set, run.seed, "san"));
        let epochs = run.protocol.epochs;
        let after_epochs = (1..=epochs).filter(|&done| of_parts || self.test_selected.is_due(done, epochs));
        #[allow(clippy::cast_precision_loss)]
        let after_epochs = after_epochs.count() as f64 * if of_parts { 4.0 } else { 1.0 };
        let augmented = self.augmentation.is_some();
        let evaluations = 1.0 + after_epochs;
        Ok(Amounts::Images(ImageAmounts { trained, evaluated, evaluations, augmented }))
    }

    fn prepare<'a>(
        &'a self,
        runs: &'a [Run],
        tuned: &Tuned<'_>,
        resources: &mut Resources,
    ) -> Result<Box<dyn PreparedTask + 'a>> {
        let run = &runs[0];
        let image = self.image()?;
        let set = resources.data.images(&run.set, &run.data, image.image_size)?;
        if set.checksum() != run.data_checksum {
            return Err(RunError::Changed { set: run.set.clone() }.into());
        }
        tuned.adapters.stochastic_depth.set_rate(self.drop_path);
        let model = classifier(tuned, tuned.adapters)?;
        let (train, test) = splits(run.stage);
        let inputs = |split| Inputs::new(set.clone(), split, image, tuned.device);
        Ok(Box::new(Prepared {
            protocol: self,
            runs,
            reads: SharedReads::of(runs, tuned.device)?,
            parts: self.parts(runs, tuned)?,
            model,
            inputs: inputs(train),
            test_inputs: inputs(test),
            loader: None,
            batch: None,
            times: Times::default(),
        }))
    }
}

impl Classification {
    /// How an image becomes the model's input, once the model is known.
    fn image(&self) -> Result<ImageProtocol> {
        self.image.complete().map_err(|field| anyhow::anyhow!("`classification.image.{field}` is missing"))
    }

    /// The run that is also evaluated with its parts alone, if it is one of these.
    fn parts(&self, runs: &[Run], tuned: &Tuned<'_>) -> Result<Option<(usize, Parts)>> {
        let Some(chosen) = &self.part_accuracies else { return Ok(None) };
        let is_chosen = |run: &Run| chosen.set == run.set && chosen.seed == run.seed;
        let Some(index) = runs.iter().position(is_chosen) else { return Ok(None) };
        let parts = tuned.with_run(i64::try_from(index)?, Parts::of)?;
        Ok(parts.map(|parts| (index, parts)))
    }
}

/// The classifier on a fine-tuned backbone with `adapters` attached.
fn classifier(tuned: &Tuned<'_>, adapters: &san_core::AdapterSet) -> Result<Classifier> {
    let LoadedBackbone { architecture, model_spec, .. } = backbone_of(tuned.base)?;
    Ok(Classifier::new(&**architecture, model_spec, tuned.weights, adapters, tuned.trainables)?)
}

fn backbone_of(base: &BaseModel) -> Result<&LoadedBackbone> {
    match base {
        BaseModel::Vision(backbone) => Ok(backbone),
        BaseModel::Language(_) => anyhow::bail!("classification needs a vision backbone"),
    }
}
