//! The arithmetic of a group of runs, from the sizes of its model and method and the amounts of its data.
//!
//! In a training step a frozen weight costs two products (forward, gradient of its input), a trained one three, and
//! gradient checkpointing one more for each. A method costs the products with its own matrices, three for each.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use anyhow::{Result, bail};
use backbones::workload::{Tokens, Workload};
use san_core::ModelSpec;
use san_core::methods;
use san_core::spec::model::SiteSpec;
use san_core::spec::trainable::{Group, TrainableSpec};

use crate::cost::work::{DecodedImages, GroupWork, Work};
use crate::models::NamedArchitecture;
use crate::resources::Models;
use crate::tasks::language::Memory;
use crate::tasks::{Amounts, EvaluatedTexts, ImageAmounts, Protocol, Run, TextAmounts, Texts};

/// Launches for a site in a training step, in units of its forward pass.
const STEP_LAUNCHES: f64 = 8.0;
/// Launches for a trained tensor of a method in a training step.
const TENSOR_LAUNCHES: f64 = 1.5;
/// Bytes that an optimiser reads and writes for each trained number in f32: value, gradient, two moments.
const OPTIMISER_BYTES: f64 = 28.0;
/// Images per forward pass of an evaluation, and of features.
const EVALUATION_BATCH: f64 = 64.0;
/// Images on which a merged model is compared.
const MERGE_CHECK: f64 = 32.0;

/// The most bytes of picture features that are kept in memory.
const KEPT_FEATURES: f64 = (2_u64 << 30) as f64;

/// Products with a matrix of the method itself.
#[derive(Debug)]
enum OwnProduct {
    /// The number of elements of the matrix, and the site at whose positions it acts: the one with the most similar path.
    Matrix(f64, String),
    /// Tokens that are added to those of a block in each example: multiply-accumulates of all of them.
    Tokens(f64),
}

/// The sizes of a model with a method.
#[derive(Debug)]
pub struct ModelSizes {
    architecture: NamedArchitecture,
    spec: ModelSpec,
    trained: Vec<TrainableSpec>,
    /// The method's own matrices.
    products: Vec<OwnProduct>,
    features_are_frozen: bool,
    element_bytes: f64,
    /// Multiply-accumulates of an image: of a forward pass, and of a training step.
    of_image: OnceCell<[f64; 2]>,
}

impl ModelSizes {
    /// Of a run's model and method; no weights are read.
    ///
    /// # Errors
    /// When the model or method is unknown, or they do not fit.
    pub fn of(run: &Run, models: &Models) -> Result<Self> {
        let protocol = &run.protocol;
        let mut architecture = models.architecture(&run.backbone)?;
        let image = protocol.classification.as_ref().and_then(|task| task.image.image_size);
        if let (NamedArchitecture::Vision(vision), Some(size)) = (&architecture, image) {
            architecture = NamedArchitecture::Vision(vision.at_image_size(size.into())?);
        }
        let (spec, method) = (architecture.model_spec(&run.backbone), run.method()?);
        let modules = protocol.modules_to_save(&run.method).map_err(anyhow::Error::msg)?;
        let trained = methods::trainables_with(&*method, &modules, &spec)?;
        let matrices = trained.iter().filter(|one| one.group == Group::Method && one.shape.len() > 1);
        Ok(Self {
            products: matrices.map(|one| own_product(one, &spec)).collect(),
            trained,
            features_are_frozen: method.features_are_frozen(),
            element_bytes: protocol.precision.kind().elt_size_in_bytes() as f64,
            of_image: OnceCell::new(),
            architecture,
            spec,
        })
    }

    /// Number of parameters that a run trains, without a head.
    pub fn trained_parameters(&self) -> f64 {
        self.trained.iter().map(|spec| spec.count() as f64).sum()
    }

    /// Bytes of the frozen weights.
    pub fn weight_bytes(&self) -> f64 {
        self.spec.parameters() as f64 * self.element_bytes
    }

    /// The work of runs that are trained together, each with these amounts.
    ///
    /// # Errors
    /// When the amounts are not those of the model's kind.
    pub fn group(&self, runs: &[Run], amounts: &Amounts) -> Result<GroupWork> {
        let (count, protocol) = (runs.len() as f64, &runs[0].protocol);
        match amounts {
            Amounts::Images(images) => {
                let seeds: BTreeSet<u64> = runs.iter().map(|run| run.seed).collect();
                self.of_images(count, seeds.len() as f64, protocol, images)
            }
            Amounts::Texts(texts) => self.of_texts(count, protocol, texts),
        }
    }

    /// Runs of the same seed read the same images once.
    fn of_images(
        &self,
        runs: f64,
        seeds: f64,
        protocol: &Protocol,
        amounts: &ImageAmounts,
    ) -> Result<GroupWork> {
        let NamedArchitecture::Vision(vision) = &self.architecture else {
            bail!("image classification needs an image model")
        };
        let &ImageAmounts { trained, evaluated, evaluations, augmented } = amounts;
        let [forward, training] = *self.of_image.get_or_init(|| {
            let image = vision.workload();
            [self.forward_macs(&image), self.training_macs(&image, false)]
        });
        let epochs = protocol.epochs as f64;
        let batch = protocol.batch_size as f64;
        let steps = epochs * (trained / batch).ceil();
        let per_step = epochs * trained / steps.max(1.0) * runs;
        let merge_check = self.pass(runs * 2.0 * MERGE_CHECK * forward, runs * 2.0);
        if self.features_are_frozen && !augmented {
            let images = trained + evaluated;
            let preparation = self.pass(images * forward, (images / EVALUATION_BATCH).ceil());
            // The head alone: a few launches for the layer and its optimiser.
            let head = |passes: f64| Work { launches: passes * STEP_LAUNCHES, ..Work::default() };
            return Ok(GroupWork {
                preparation,
                steps,
                step: head(1.0),
                evaluation: merge_check + head(evaluations),
                images: DecodedImages { once: images, streamed: 0.0 },
            });
        }
        let passes = evaluations * (evaluated * runs / EVALUATION_BATCH).ceil();
        Ok(GroupWork {
            preparation: Work::default(),
            steps,
            step: self.step(per_step * training, runs, 1.0, false),
            evaluation: self.pass(evaluated * evaluations * runs * forward, passes) + merge_check,
            images: DecodedImages {
                once: evaluated + if augmented { 0.0 } else { trained },
                streamed: if augmented { trained * epochs * seeds } else { 0.0 },
            },
        })
    }

    fn of_texts(&self, runs: f64, protocol: &Protocol, amounts: &TextAmounts) -> Result<GroupWork> {
        let memory = protocol.memory();
        let TextAmounts { steps, trained, held_out, held_out_passes, evaluated, tower } = amounts;
        let epochs = if self.trained.is_empty() { 0.0 } else { protocol.epochs as f64 };
        let steps = steps * epochs;
        let micro_batches = micro_batches(memory, protocol.batch_size);
        let examples = epochs * trained.number / steps.max(1.0);
        let image_tokens = match (&self.architecture, tower) {
            (NamedArchitecture::Llava(llava), Some(tower)) => {
                llava.tower.token_count() as f64 * tower.trained / trained.number.max(1.0)
            }
            _ => 0.0,
        };
        let of_example = self.texts(Tokens::text(trained.length, trained.predicted), image_tokens)?;
        let step = self.training(
            &of_example.clone().times(examples * runs),
            runs,
            micro_batches,
            memory.gradient_checkpointing,
        );
        let compared = self.forward(&of_example, held_out.number * runs, *held_out_passes);
        let evaluation = self.answers(evaluated, image_tokens)? * runs;
        let mut work = GroupWork {
            steps,
            step: if steps > 0.0 { step } else { Work::default() },
            evaluation: evaluation + if steps > 0.0 { compared } else { Work::default() },
            ..GroupWork::default()
        };
        if let (NamedArchitecture::Llava(llava), Some(tower)) = (&self.architecture, tower) {
            let image = llava.tower.workload();
            let spec = llava.tower.model_spec("tower");
            let features = |pictures: f64| Work {
                macs: pictures * image.macs(&spec),
                launches: (pictures / EVALUATION_BATCH).ceil() * spec.sites.len() as f64,
                bytes: 0.0,
            };
            let width = spec.head.as_ref().map_or(0, |head| head.features);
            let bytes = tower.pictures * (llava.tower.token_count() * width) as f64 * self.element_bytes;
            if bytes <= KEPT_FEATURES {
                work.preparation = features(tower.pictures);
                work.images.once = tower.pictures;
            } else {
                work.step = work.step + features(tower.trained * epochs) * (1.0 / steps.max(1.0));
                work.evaluation = work.evaluation + features(tower.evaluated * runs);
                work.images.streamed = tower.trained * epochs + tower.evaluated * runs;
            }
        }
        Ok(work)
    }

    /// Answering every prompt.
    fn answers(&self, evaluated: &EvaluatedTexts, image_tokens: f64) -> Result<Work> {
        let &EvaluatedTexts { prompts, batches, new_tokens, sequences } = evaluated;
        let Texts { number, length, predicted } = prompts;
        let prompt = self.texts(Tokens::text(length, predicted), image_tokens)?;
        if new_tokens == 0.0 {
            return Ok(self.forward(&prompt, number * sequences, number));
        }
        let generated = self.texts(Tokens::generated(length, new_tokens), 0.0)?;
        let passes = batches * new_tokens;
        let one_by_one = self.forward(&generated, number * sequences, passes);
        let one_by_one = Work { bytes: passes * self.weight_bytes(), ..one_by_one };
        Ok(self.forward(&prompt, number, batches) + one_by_one)
    }

    fn texts(&self, tokens: Tokens, image_tokens: f64) -> Result<Workload> {
        Ok(match &self.architecture {
            NamedArchitecture::Language(language) => language.workload(tokens),
            NamedArchitecture::Llava(llava) => llava.workload(tokens, image_tokens),
            NamedArchitecture::Vision(_) => bail!("a task of texts needs a language model"),
        })
    }

    /// Forward passes over some examples.
    fn forward(&self, example: &Workload, examples: f64, passes: f64) -> Work {
        self.pass(examples * self.forward_macs(example), passes)
    }

    /// Forward passes with this number of multiply-accumulates together.
    fn pass(&self, macs: f64, passes: f64) -> Work {
        let launches = passes * (self.spec.sites.len() + self.own_tensors()) as f64;
        Work { macs, launches, bytes: 0.0 }
    }

    /// A training step over the examples of `work`, in `passes` micro-batches.
    fn training(&self, work: &Workload, runs: f64, passes: f64, checkpointing: bool) -> Work {
        self.step(self.training_macs(work, checkpointing), runs, passes, checkpointing)
    }

    /// A training step with this number of multiply-accumulates.
    fn step(&self, macs: f64, runs: f64, passes: f64, checkpointing: bool) -> Work {
        if self.trained.is_empty() {
            return self.pass(macs, passes);
        }
        let (sites, again) = (self.spec.sites.len() as f64, f64::from(u8::from(checkpointing)));
        Work {
            macs,
            launches: passes
                * (sites * (STEP_LAUNCHES + again) + TENSOR_LAUNCHES * self.own_tensors() as f64),
            bytes: self.trained_parameters() * runs * OPTIMISER_BYTES,
        }
    }

    fn forward_macs(&self, work: &Workload) -> f64 {
        work.macs(&self.spec) + self.own_products(work)
    }

    fn training_macs(&self, work: &Workload, checkpointing: bool) -> f64 {
        let again = f64::from(u8::from(checkpointing));
        if self.trained.is_empty() {
            // Nothing before the head is trained: no gradient goes through the backbone.
            return self.forward_macs(work);
        }
        let replaced: BTreeSet<&str> = self.trained.iter().map(|spec| spec.name.as_str()).collect();
        let of_site = |site: &SiteSpec| {
            let positions = work.positions.get(&site.name).copied().unwrap_or(0.0);
            let is_trained = replaced.contains(format!("{}.weight", site.name).as_str());
            let products = if is_trained { 3.0 } else { 2.0 } + again;
            positions * (site.inputs * site.outputs) as f64 * products
        };
        let trains_output =
            replaced.iter().any(|name| name.contains("lm_head") || name.contains("embed_tokens"));
        let output = work.output * if trains_output { 3.0 } else { 2.0 };
        let products = self.spec.sites.iter().map(of_site).sum::<f64>();
        let own = self.own_products(work);
        products + output + (work.attention + own) * (3.0 + again)
    }

    /// Number of tensors of the method itself.
    fn own_tensors(&self) -> usize {
        self.trained.iter().filter(|spec| spec.group == Group::Method).count()
    }

    /// Multiply-accumulates of a forward pass with the method's own matrices.
    fn own_products(&self, work: &Workload) -> f64 {
        let product = |one: &OwnProduct| match one {
            OwnProduct::Matrix(numbers, site) => numbers * work.positions.get(site).copied().unwrap_or(0.0),
            OwnProduct::Tokens(macs) => macs * self.sequences(work),
        };
        self.products.iter().map(product).sum()
    }

    /// Number of sequences of tokens: examples.
    fn sequences(&self, work: &Workload) -> f64 {
        let NamedArchitecture::Vision(vision) = &self.architecture else { return 1.0 };
        let patches = vision.token_count() as f64;
        let first = self.spec.sites.first().and_then(|site| work.positions.get(&site.name));
        first.copied().unwrap_or(0.0) / patches
    }
}

/// Passes of a step.
fn micro_batches(memory: Memory, batch: usize) -> f64 {
    memory.micro_batch_size.map_or(1.0, |size| batch.div_ceil(size.get()) as f64)
}

fn own_product(trained: &TrainableSpec, spec: &ModelSpec) -> OwnProduct {
    let parent = trained.name.rsplit_once('.').map_or("", |(parent, _)| parent);
    if let Some(block) = spec.sequences.iter().find(|block| block.name == parent) {
        let path = format!("{parent}.");
        let inside = spec.sites.iter().filter(|site| site.name.starts_with(&path));
        let per_token: f64 = inside.map(|site| (site.inputs * site.outputs) as f64).sum();
        return OwnProduct::Tokens(trained.count() as f64 / block.width as f64 * per_token);
    }
    let shared = |site: &SiteSpec| {
        let names = site.name.split('.').zip(trained.name.split('.'));
        names.take_while(|(one, other)| one == other).count()
    };
    let nearest = spec.sites.iter().max_by_key(|site| shared(site));
    OwnProduct::Matrix(trained.count() as f64, nearest.map_or_else(String::new, |site| site.name.clone()))
}
