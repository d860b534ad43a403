//! The trained tensors of K runs, in one flat buffer.
//!
//! `values` is one tensor `[K, P]`: a row for each run, a column for each trained number. The
//! tensors that the model sees are detached views of it, so that the optimiser updates everything
//! in a handful of operations, a checkpoint of a run is a row, and a run that diverged is a row
//! whose gradient is not finite. Columns that weight decay applies to come first.

use std::collections::BTreeMap;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::nn::pass::Pass;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::weights::draw::initial;
use crate::{Error, Weights};

/// Constants are the same for every run, whatever its seed.
const CONSTANTS_SEED: u64 = 0;

/// The trained tensors of K runs.
#[derive(Debug)]
pub struct Trainables {
    specs: Vec<TrainableSpec>,
    constants: BTreeMap<String, Tensor>,
    values: Tensor,
    leaves: Vec<Tensor>,
    decayed: i64,
    pass: Rc<Pass>,
}

impl Trainables {
    /// Allocates and initialises the tensors of one run for each of `seeds`.
    ///
    /// # Errors
    /// If a frozen tensor to start from is missing, or memory is.
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
        Self::over(specs, values, Rc::new(Pass::new(seeds.to_vec())))
    }

    /// Draws the tensors that stay as they are, the same for every run.
    ///
    /// # Errors
    /// As [`Trainables::allocate`].
    pub fn with_constants(mut self, specs: &[TrainableSpec], weights: &Weights) -> Result<Self, Error> {
        for spec in specs {
            let value = initial(spec, CONSTANTS_SEED, weights)?.f_to_device(self.values.device())?;
            self.constants.insert(spec.name.clone(), value);
        }
        Ok(self)
    }

    /// The same in another number type (f64 for checks of gradients).
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn to_kind(&self, kind: Kind) -> Result<Self, Error> {
        let mut other = Self::over(self.specs.clone(), self.values.f_to_kind(kind)?, self.pass.clone())?;
        for (name, constant) in &self.constants {
            other.constants.insert(name.clone(), constant.f_to_kind(kind)?);
        }
        Ok(other)
    }

    /// A tensor that stays as it was drawn, without stack dimension.
    ///
    /// # Errors
    /// If no method asked for it.
    pub fn constant(&self, name: &str) -> Result<Tensor, Error> {
        let missing = || Error::MissingTensor { name: name.into(), place: "the method's constants".into() };
        self.constants.get(name).map(Tensor::shallow_clone).ok_or_else(missing)
    }

    /// Every tensor that stays as it was drawn.
    pub fn constants(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.constants.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Views of an existing buffer `[K, P]`.
    fn over(specs: Vec<TrainableSpec>, values: Tensor, pass: Rc<Pass>) -> Result<Self, Error> {
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
        Ok(Self { specs, constants: BTreeMap::new(), values, leaves, decayed, pass })
    }

    /// The tensor `[K, ...]` of that name; gradients reach it.
    ///
    /// # Errors
    /// If no method asked for it.
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

    /// A number for each column of the buffer, `[P]`, by what it belongs to.
    pub fn by_group(&self, number: impl Fn(Group) -> f64) -> Tensor {
        let columns = |spec: &TrainableSpec| {
            std::iter::repeat_n(number(spec.group), usize::try_from(spec.count()).unwrap_or(0))
        };
        let numbers: Vec<f64> = self.specs.iter().flat_map(columns).collect();
        Tensor::from_slice(&numbers).to_device(self.values.device()).to_kind(self.values.kind())
    }

    /// The buffer `[K, P]`; a change of it is a change of the tensors.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The pass that a model over these tensors is in.
    pub fn pass(&self) -> &Rc<Pass> {
        &self.pass
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
    /// If libtorch cannot differentiate.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor, Error> {
        let mut sum = GradientSum::new(self);
        sum.add(loss, None)?;
        sum.finish()
    }
}

/// A gradient summed over parts of a model that are differentiated one by one.
#[derive(Debug)]
pub struct GradientSum<'a> {
    trainables: &'a Trainables,
    /// Of each trained tensor; none as long as nothing depends on it.
    sums: Vec<Option<Tensor>>,
}

impl<'a> GradientSum<'a> {
    /// Zero.
    pub fn new(trainables: &'a Trainables) -> Self {
        Self { trainables, sums: trainables.leaves.iter().map(|_| None).collect() }
    }

    /// Adds the gradient of a scalar; returns that with respect to `input`, which must be a leaf.
    ///
    /// # Errors
    /// If libtorch cannot differentiate.
    pub fn add(&mut self, scalar: &Tensor, input: Option<&Tensor>) -> Result<Option<Tensor>, Error> {
        let leaves = &self.trainables.leaves;
        let inputs: Vec<&Tensor> = leaves.iter().chain(input).collect();
        let mut gradients = Tensor::f_run_backward(&[scalar], &inputs, false, false)?;
        let of_input = gradients.split_off(leaves.len()).pop();
        for (sum, gradient) in self.sums.iter_mut().zip(gradients) {
            if gradient.defined() {
                *sum = Some(match sum.take() {
                    Some(before) => before.f_add(&gradient)?,
                    None => gradient,
                });
            }
        }
        Ok(of_input.filter(Tensor::defined))
    }

    /// The sum, `[K, P]`.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn finish(self) -> Result<Tensor, Error> {
        let stack = self.trainables.stack();
        let flat = self
            .sums
            .iter()
            .zip(&self.trainables.leaves)
            .map(|(sum, leaf)| match sum {
                Some(gradient) => gradient.f_reshape([stack, -1]),
                None => leaf.f_zeros_like()?.f_reshape([stack, -1]),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::f_cat(&flat, 1)?)
    }
}

/// Decayed tensors first, each kind in the order given.
fn in_buffer_order(specs: &[TrainableSpec]) -> impl Iterator<Item = &TrainableSpec> {
    specs.iter().filter(|spec| spec.decays()).chain(specs.iter().filter(|spec| !spec.decays()))
}
