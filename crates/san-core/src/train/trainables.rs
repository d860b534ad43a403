//! The trained tensors of K runs, in one flat buffer.
//!
//! `values` is one tensor `[K, P]`: a row per run, a column per trained element. The tensors that the model
//! uses are detached views of it, so that the optimiser updates everything in a handful of operations, a run's
//! checkpoint is one row, and a diverged run is a row with a non-finite gradient. Columns subject to weight
//! decay come first.

use std::collections::BTreeMap;
use std::rc::Rc;

use tch::{Device, Kind, Tensor, no_grad};

use crate::nn::pass::Pass;
use crate::spec::trainable::TrainableSpec;
use crate::train::gradients::{GradientSum, differentiate};
use crate::weights::draw::initial;
use crate::{Error, Weights};

/// Constants are the same for every run, regardless of its seed.
const CONSTANTS_SEED: u64 = 0;

/// The trained tensors of K runs.
#[derive(Debug)]
pub struct Trainables {
    specs: Vec<TrainableSpec>,
    constants: BTreeMap<String, Tensor>,
    values: Tensor,
    leaves: Vec<Tensor>,
    pass: Rc<Pass>,
}

impl Trainables {
    /// Allocates and initialises the tensors in f32, one run per seed.
    ///
    /// # Errors
    /// If a frozen tensor to copy is missing, or memory cannot be allocated.
    pub fn allocate(
        specs: Vec<TrainableSpec>,
        seeds: &[u64],
        weights: &Weights,
        device: Device,
    ) -> Result<Self, Error> {
        Self::allocate_in(specs, seeds, weights, (Kind::Float, device))
    }

    /// The same in any dtype. One tensor at a time is converted: the buffer may be as large as the device's memory
    /// permits.
    ///
    /// # Errors
    /// As for [`Trainables::allocate`].
    pub fn allocate_in(
        specs: Vec<TrainableSpec>,
        seeds: &[u64],
        weights: &Weights,
        options: (Kind, Device),
    ) -> Result<Self, Error> {
        let columns: i64 = specs.iter().map(TrainableSpec::count).sum();
        let values = Tensor::f_empty([seeds.len() as i64, columns], options)?;
        for (&seed, run) in seeds.iter().zip(0..) {
            let row = values.f_get(run)?;
            let mut start = 0;
            for spec in in_buffer_order(&specs) {
                let initial = initial(spec, seed, weights)?.f_flatten(0, -1)?;
                no_grad(|| row.f_narrow(0, start, spec.count())?.f_copy_(&initial))?;
                start += spec.count();
            }
        }
        Self::from_buffer(specs, values, Rc::new(Pass::new(seeds.to_vec())))
    }

    /// Initialises the constants, which are the same for every run.
    ///
    /// # Errors
    /// Same as [`Trainables::allocate`].
    pub fn with_constants(mut self, specs: &[TrainableSpec], weights: &Weights) -> Result<Self, Error> {
        for spec in specs {
            let value = initial(spec, CONSTANTS_SEED, weights)?.f_to_device(self.values.device())?;
            self.constants.insert(spec.name.clone(), value);
        }
        Ok(self)
    }

    /// Converts to another dtype (f64 for gradient checks).
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn to_kind(&self, kind: Kind) -> Result<Self, Error> {
        let mut other =
            Self::from_buffer(self.specs.clone(), self.values.f_to_kind(kind)?, self.pass.clone())?;
        for (name, constant) in &self.constants {
            other.constants.insert(name.clone(), constant.f_to_kind(kind)?);
        }
        Ok(other)
    }

    /// A constant, without stack dimension.
    ///
    /// # Errors
    /// If the method has no such constant.
    pub fn constant(&self, name: &str) -> Result<Tensor, Error> {
        let missing = || Error::MissingTensor { name: name.into(), place: "the method's constants".into() };
        self.constants.get(name).map(Tensor::shallow_clone).ok_or_else(missing)
    }

    /// All constants.
    pub fn constants(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.constants.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Views of an existing buffer `[K, P]`.
    fn from_buffer(specs: Vec<TrainableSpec>, values: Tensor, pass: Rc<Pass>) -> Result<Self, Error> {
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
        Ok(Self { specs, constants: BTreeMap::new(), values, leaves, pass })
    }

    /// The tensor `[K, ...]` of that name, as an autograd leaf.
    ///
    /// # Errors
    /// If the method trains no such tensor.
    pub fn get(&self, name: &str) -> Result<Tensor, Error> {
        let index = self.specs.iter().position(|spec| spec.name == name);
        index
            .map(|index| self.leaves[index].shallow_clone())
            .ok_or_else(|| Error::MissingTensor { name: name.into(), place: "the trained tensors".into() })
    }

    /// Every trained tensor with its spec, in buffer order.
    pub fn iter(&self) -> impl Iterator<Item = (&TrainableSpec, &Tensor)> {
        self.specs.iter().zip(&self.leaves)
    }

    /// The tensors of one run, which share their memory with these.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn of_run(&self, run: i64) -> Result<Self, Error> {
        let pass = Rc::new(self.pass.of_run(usize::try_from(run).unwrap_or(usize::MAX)));
        let mut alone = Self::from_buffer(self.specs.clone(), self.values.f_narrow(0, run, 1)?, pass)?;
        for (name, constant) in &self.constants {
            alone.constants.insert(name.clone(), constant.shallow_clone());
        }
        Ok(alone)
    }

    /// The buffer `[K, P]`; changing it changes the tensors.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The current pass of the model that uses these tensors.
    pub fn pass(&self) -> &Rc<Pass> {
        &self.pass
    }

    /// Number of runs in the stack.
    pub fn stack(&self) -> i64 {
        self.values.size()[0]
    }

    /// Gradient `[K, P]` of a scalar; zero for tensors that it does not depend on.
    ///
    /// # Errors
    /// If libtorch cannot differentiate.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor, Error> {
        let mut sum = GradientSum::new(self);
        differentiate(self, loss, None, &mut sum)?;
        sum.finish()
    }
}

/// Tensors subject to weight decay first, otherwise in the given order.
fn in_buffer_order(specs: &[TrainableSpec]) -> impl Iterator<Item = &TrainableSpec> {
    specs.iter().filter(|spec| spec.decays()).chain(specs.iter().filter(|spec| !spec.decays()))
}
