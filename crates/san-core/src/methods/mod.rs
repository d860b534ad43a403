//! The registry of methods: each method is one file here and one line in [`REGISTRY`].
//!
//! A method works from a [`ModelSpec`], never from a backbone's name. It lists the tensors it trains, which is
//! enough for counting and planning, and attaches them once they are allocated.

mod adapter;
mod adaptformer;
mod bitfit;
mod bottleneck;
mod dora;
mod fft;
mod frozen;
mod host;
mod ia3;
mod label;
mod linear;
mod lora;
mod low_rank;
mod low_rank_peft;
mod modules_to_save;
mod norm;
mod patterns;
pub mod peft;
mod row_norms;
mod san;
mod san_dora;
mod san_lora;
mod san_ssf;
mod ssf;
mod targets;
mod tensors;
mod vera;
mod vpt;

use std::rc::Rc;

use serde::Serialize;
use serde_json::{Map, Value};
use tch::{Device, Kind};

use modules_to_save::attach_modules_to_save;
pub(crate) use modules_to_save::reject_modules_to_save;
pub use modules_to_save::trainables_with;

use peft::{FromPeft, PeftForm};

use crate::error::did_you_mean;
use crate::nn::branch::StochasticDepth;
use crate::spec::effects::Effects;
use crate::spec::trainable::{TrainableSpec, head_specs};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// The options of a method. A method is its options: its type has a field for each, so this follows from `Serialize`.
pub trait Options {
    /// All options, those with default values included, by name.
    ///
    /// # Errors
    /// If a value cannot be written as JSON.
    fn options(&self) -> Result<Map<String, Value>, Error>;
}

impl<M: Serialize> Options for M {
    fn options(&self) -> Result<Map<String, Value>, Error> {
        Ok(serde_json::from_value(serde_json::to_value(self)?)?)
    }
}

/// A method with resolved options.
pub trait Method: Options + std::fmt::Debug + Send + Sync {
    /// Its registry entry.
    fn info(&self) -> &'static MethodInfo;

    /// Its name in the registry.
    fn name(&self) -> &'static str {
        self.info().name
    }

    /// The method that this one extends; its implementations are the defaults of this one.
    fn inner(&self) -> Option<&dyn Method> {
        None
    }

    /// Names under which tables publish it with these options.
    fn published_as(&self) -> &'static [&'static str] {
        self.info().published_as
    }

    /// Its usual name, which may have a place for some of its options.
    fn title(&self) -> String {
        self.info().label.into()
    }

    /// Name of its table row: the title, and the options that differ from the defaults.
    ///
    /// # Errors
    /// If an option cannot be written as JSON.
    fn label(&self) -> Result<String, Error> {
        label::complete(self.info(), self.title(), &self.options()?)
    }

    /// The tensors to train in addition to the head.
    ///
    /// # Errors
    /// If the method is not compatible with the backbone.
    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error>;

    /// Attaches the method, given frozen weights and allocated tensors.
    ///
    /// # Errors
    /// If a tensor of [`Method::trainables`] is missing.
    fn attach(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error>;

    /// What it adds to a forward pass, as far as memory depends on it; nothing for a method that only trains tensors of the
    /// model.
    ///
    /// # Errors
    /// If the method is not compatible with the backbone.
    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        self.inner().map_or(Ok(Effects::default()), |inner| inner.effects(model_spec))
    }

    /// Tensors that keep their initial values, in addition to the trained ones (a random projection, or the
    /// initial factors that an update is relative to). Adapter files contain them too.
    ///
    /// # Errors
    /// If the method is not compatible with the backbone.
    fn constants(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        self.inner().map_or(Ok(Vec::new()), |inner| inner.constants(model_spec))
    }

    /// Why the method cannot be merged into plain weights; `None` if it can.
    fn unmergeable(&self) -> Option<&'static str> {
        self.inner()?.unmergeable()
    }

    /// The method in peft's format, for one run.
    ///
    /// # Errors
    /// If peft has no such method, or does not support it on these targets.
    fn to_peft(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
        run: i64,
    ) -> Result<PeftForm, Error> {
        let _ = (model_spec, weights, trainables, run);
        Err(Error::Unexportable { method: self.name().into(), reason: "peft has no such method".into() })
    }

    /// Whether the backbone is unchanged, so that features can be computed once.
    fn features_are_frozen(&self) -> bool {
        false
    }
}

/// Registry entry of a method.
#[derive(Debug, Clone, Copy)]
pub struct MethodInfo {
    /// Name in experiment files.
    pub name: &'static str,
    /// Name in tables, with default options.
    pub label: &'static str,
    /// What it trains, in one sentence.
    pub summary: &'static str,
    /// Cost at inference, merged where possible.
    pub inference_cost: &'static str,
    /// Where it was published.
    pub source: &'static str,
    /// Names used for it in other papers' tables, without size suffixes (`-8`, ` r16`).
    pub published_as: &'static [&'static str],
    parse: fn(Value) -> Result<Box<dyn Method>, serde_json::Error>,
    /// Imports it from peft's files; `None` if peft has no such method.
    pub(crate) from_peft: Option<FromPeft>,
}

/// Name of the method that trains nothing.
pub const UNTRAINED: &str = "frozen";

/// Every method in table order: first the two extremes (only the head, everything), then baselines by family
/// and year, and last the method under study.
pub const REGISTRY: &[&MethodInfo] = &[
    &frozen::INFO,
    &linear::INFO,
    &fft::INFO,
    &bitfit::INFO,
    &norm::INFO,
    &adapter::INFO,
    &adaptformer::INFO,
    &vpt::INFO,
    &lora::INFO,
    &dora::INFO,
    &vera::INFO,
    &ia3::INFO,
    &ssf::INFO,
    &san_ssf::INFO,
    &san_lora::INFO,
    &san_dora::INFO,
    &san::INFO,
];

/// Row index of a method in tables, from 0.
pub fn table_position(name: &str) -> usize {
    REGISTRY.iter().position(|info| info.name == name).unwrap_or(REGISTRY.len())
}

fn parse<M: Method + serde::de::DeserializeOwned + 'static>(
    options: Value,
) -> Result<Box<dyn Method>, serde_json::Error> {
    Ok(Box::new(serde_json::from_value::<M>(options)?))
}

/// The method named `name` with these options.
///
/// # Errors
/// If there is no such method (the error suggests the nearest name), or an option is unknown or invalid.
pub fn find(name: &str, options: Map<String, Value>) -> Result<Box<dyn Method>, Error> {
    let Some(info) = REGISTRY.iter().find(|info| info.name == name) else {
        return Err(Error::UnknownMethod {
            name: name.into(),
            hint: did_you_mean(name, REGISTRY.iter().map(|info| info.name)),
        });
    };
    (info.parse)(Value::Object(options))
        .map_err(|error| Error::BadOption { method: name.into(), reason: error.to_string() })
}

/// Allocates the tensors of a method, of `modules_to_save` and of a head for `classes` classes, one run per
/// seed, and attaches them.
///
/// # Errors
/// If the method is not compatible with the backbone, or memory cannot be allocated.
pub fn prepare(
    method: &dyn Method,
    modules_to_save: &[String],
    model_spec: &ModelSpec,
    weights: &Weights,
    classes: i64,
    seeds: &[u64],
    device: Device,
) -> Result<(Trainables, AdapterSet), Error> {
    let options = (Kind::Float, device);
    let trainables = allocate(method, modules_to_save, model_spec, weights, classes, seeds, options)?;
    let adapters = attach(method, modules_to_save, model_spec, weights, &trainables)?;
    Ok((trainables, adapters))
}

/// Allocates the tensors of a method, of `modules_to_save` and of a head for `classes` classes, one run per seed, with
/// initial values from `weights`, in the given dtype on the given device.
///
/// # Errors
/// If the method is not compatible with the backbone, or memory cannot be allocated.
pub fn allocate(
    method: &dyn Method,
    modules_to_save: &[String],
    model_spec: &ModelSpec,
    weights: &Weights,
    classes: i64,
    seeds: &[u64],
    options: (Kind, Device),
) -> Result<Trainables, Error> {
    let mut specs = trainables_with(method, modules_to_save, model_spec)?;
    specs.extend(head_specs(model_spec, classes));
    Trainables::allocate_in(specs, seeds, weights, options)?
        .with_constants(&method.constants(model_spec)?, weights)
}

/// Attaches a method and fully trained modules to a model with the frozen `weights`, given their tensors. The weights may
/// have another dtype than those that the tensors were allocated from.
///
/// # Errors
/// If a tensor is missing.
pub fn attach(
    method: &dyn Method,
    modules_to_save: &[String],
    model_spec: &ModelSpec,
    weights: &Weights,
    trainables: &Trainables,
) -> Result<AdapterSet, Error> {
    let mut adapters = method.attach(model_spec, weights, trainables)?;
    attach_modules_to_save(modules_to_save, trainables, &mut adapters)?;
    adapters.stochastic_depth = Rc::new(StochasticDepth::new(trainables.pass().clone()));
    Ok(adapters)
}

/// The error for a method that does not fit a backbone.
fn incompatible(method: &dyn Method, model_spec: &ModelSpec, reason: &str) -> Error {
    Error::Incompatible {
        method: method.name().into(),
        backbone: model_spec.backbone.clone(),
        reason: reason.into(),
    }
}

/// Rejects a rank, width or number of prompts out of range; products of two valid sizes are far from overflow.
fn check_size(method: &str, option: &str, size: i64) -> Result<(), Error> {
    const MAX: i64 = 1 << 16;
    if (1..=MAX).contains(&size) {
        return Ok(());
    }
    Err(bad_option(method, &format!("`{option}` is {size}; expected a number from 1 to {MAX}")))
}

/// The error for an invalid option value.
fn bad_option(method: &str, reason: &str) -> Error {
    Error::BadOption { method: method.into(), reason: reason.into() }
}
