//! The trained tensors of K runs, in one flat buffer.
//!
//! `values` is one tensor `[K, P]`: a row for each run, a column for each trained number. The
//! tensors that the model sees are detached views of it, so that the optimiser updates everything
//! in a handful of operations, a checkpoint of a run is a row, and a run that diverged is a row
//! whose gradient is not finite. Columns that weight decay applies to come first.

use rand_distr::{Distribution, StandardNormal, Uniform};
use tch::{Device, Kind, Tensor};

use crate::{Error, Weights, random};

/// How a tensor starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal with this mean and standard deviation.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        deviation: f64,
    },
    /// Normal around 0, redrawn beyond +-2 (the defaults of timm's `trunc_normal_`).
    TruncatedNormal {
        /// Standard deviation.
        deviation: f64,
    },
    /// Uniform in +-1/sqrt(inputs): torch's `kaiming_uniform_` with a = sqrt(5), its default.
    KaimingUniform {
        /// Number of inputs of the projection.
        inputs: i64,
    },
    /// A copy of the frozen tensor of this name.
    Frozen(String),
}

/// What a trained tensor belongs to; counts and learning rates are told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The method's own tensors.
    Method,
    /// A tensor of the backbone.
    Backbone,
    /// The classification head.
    Head,
}

/// A trained tensor, before it is allocated.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainableSpec {
    /// Name, unique within a run: that of the tensor it replaces, or `<site>.<what>`.
    pub name: String,
    /// Shape of one run's tensor, without the stack dimension.
    pub shape: Vec<i64>,
    /// How it starts.
    pub init: Init,
    /// What it belongs to.
    pub group: Group,
}

impl TrainableSpec {
    /// Number of elements of one run.
    pub fn count(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Whether weight decay applies: to matrices, not to biases, norms and scaling vectors (timm's
    /// `param_groups_weight_decay`).
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// The head of a classifier: `<head>.weight` `[classes, features]` and `<head>.bias` `[classes]`.
pub fn head_specs(layout: &crate::Layout, classes: i64) -> Vec<TrainableSpec> {
    let spec = |what: &str, shape: Vec<i64>, init| TrainableSpec {
        name: format!("{}.{what}", layout.head),
        shape,
        init,
        group: Group::Head,
    };
    vec![
        spec("weight", vec![classes, layout.features], Init::TruncatedNormal { deviation: 0.02 }),
        spec("bias", vec![classes], Init::Zeros),
    ]
}

/// The trained tensors of K runs.
#[derive(Debug)]
pub struct Trainables {
    specs: Vec<TrainableSpec>,
    values: Tensor,
    leaves: Vec<Tensor>,
    decayed: i64,
}

impl Trainables {
    /// Allocates and initialises the tensors of one run for each of `seeds`.
    ///
    /// # Errors
    /// When a frozen tensor to start from is missing, or memory is.
    pub fn allocate(
        specs: Vec<TrainableSpec>,
        seeds: &[u64],
        weights: &Weights,
        device: Device,
    ) -> Result<Self, Error> {
        let rows = seeds
            .iter()
            .map(|&seed| {
                let mut parts: Vec<Tensor> = Vec::new();
                for spec in in_buffer_order(&specs) {
                    parts.push(initial(spec, seed, weights)?.f_flatten(0, -1)?);
                }
                Ok(if parts.is_empty() {
                    Tensor::f_zeros([0], (Kind::Float, Device::Cpu))?
                } else {
                    Tensor::f_cat(&parts, 0)?
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let values = Tensor::f_stack(&rows, 0)?.f_to_device(device)?;
        Self::over(specs, values)
    }

    /// Views of an existing buffer `[K, P]`.
    fn over(specs: Vec<TrainableSpec>, values: Tensor) -> Result<Self, Error> {
        let stack = values.size()[0];
        let mut offset = 0;
        let mut leaves = Vec::with_capacity(specs.len());
        for spec in in_buffer_order(&specs) {
            let mut shape = vec![stack];
            shape.extend(&spec.shape);
            let view = values.f_narrow(1, offset, spec.count())?.f_view(shape.as_slice())?;
            leaves.push(view.f_detach()?.f_set_requires_grad(true)?);
            offset += spec.count();
        }
        let specs: Vec<_> = in_buffer_order(&specs).cloned().collect();
        let decayed = specs.iter().filter(|spec| spec.decays()).map(TrainableSpec::count).sum();
        Ok(Self { specs, values, leaves, decayed })
    }

    /// The tensor `[K, ...]` of that name; gradients reach it.
    ///
    /// # Errors
    /// When no method asked for it.
    pub fn get(&self, name: &str) -> Result<Tensor, Error> {
        let index = self.specs.iter().position(|spec| spec.name == name);
        index
            .map(|index| self.leaves[index].shallow_clone())
            .ok_or_else(|| Error::MissingTensor { name: name.into(), place: "the trained tensors".into() })
    }

    /// Every trained tensor with its description, in the buffer's order.
    pub fn iter(&self) -> impl Iterator<Item = (&TrainableSpec, &Tensor)> {
        self.specs.iter().zip(&self.leaves)
    }

    /// The buffer `[K, P]`; a change of it is a change of the tensors.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Number of runs in the stack.
    pub fn stack(&self) -> i64 {
        self.values.size()[0]
    }

    /// Number of leading columns of the buffer that weight decay applies to.
    pub fn decayed(&self) -> i64 {
        self.decayed
    }

    /// Gradient `[K, P]` of a scalar; zero where the scalar does not depend on a tensor.
    ///
    /// # Errors
    /// When libtorch cannot differentiate.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor, Error> {
        let gradients = Tensor::f_run_backward(&[loss], &self.leaves, false, false)?;
        let stack = self.stack();
        let flat = gradients
            .iter()
            .zip(&self.leaves)
            .map(|(gradient, leaf)| {
                if gradient.defined() {
                    gradient.f_reshape([stack, -1])
                } else {
                    leaf.f_zeros_like()?.f_reshape([stack, -1])
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::f_cat(&flat, 1)?)
    }
}

/// Decayed tensors first, each kind in the order given.
fn in_buffer_order(specs: &[TrainableSpec]) -> impl Iterator<Item = &TrainableSpec> {
    specs.iter().filter(|spec| spec.decays()).chain(specs.iter().filter(|spec| !spec.decays()))
}

/// One run's tensor at its start, f32, on the CPU; a function of (seed, name) alone.
///
/// # Errors
/// When a frozen tensor to copy is missing or of another shape.
pub fn initial(spec: &TrainableSpec, seed: u64, weights: &Weights) -> Result<Tensor, Error> {
    let shape = spec.shape.as_slice();
    let mut generator = random::generator(seed, &spec.name);
    let count = spec.count();
    let mut draw = |one: &mut dyn FnMut(&mut rand_chacha::ChaCha8Rng) -> f64| {
        #[allow(clippy::cast_possible_truncation)]
        let values: Vec<f32> = (0..count).map(|_| one(&mut generator) as f32).collect();
        Tensor::from_slice(&values).f_view(shape)
    };
    let options = (Kind::Float, Device::Cpu);
    Ok(match &spec.init {
        Init::Zeros => Tensor::f_zeros(shape, options)?,
        Init::Ones => Tensor::f_ones(shape, options)?,
        Init::Normal { mean, deviation } => draw(&mut |random| mean + deviation * standard_normal(random))?,
        Init::TruncatedNormal { deviation } => draw(&mut |random| {
            loop {
                let value = deviation * standard_normal(random);
                if value.abs() <= 2.0 {
                    break value;
                }
            }
        })?,
        Init::KaimingUniform { inputs } => {
            #[allow(clippy::cast_precision_loss)]
            let bound = 1.0 / (*inputs as f64).sqrt();
            let uniform = Uniform::new(-bound, bound).map_err(|_| Error::BadOption {
                method: spec.name.clone(),
                reason: "a projection needs at least one input".into(),
            })?;
            draw(&mut |random| uniform.sample(random))?
        }
        Init::Frozen(name) => {
            let frozen = weights.get(name)?;
            if frozen.size() != shape {
                return Err(Error::WrongShape {
                    name: name.clone(),
                    place: "the frozen weights".into(),
                    found: frozen.size(),
                    expected: shape.to_vec(),
                });
            }
            frozen.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?
        }
    })
}

fn standard_normal(random: &mut rand_chacha::ChaCha8Rng) -> f64 {
    StandardNormal.sample(random)
}
