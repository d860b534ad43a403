//! The registry of methods: a method is one file here and one line in [`REGISTRY`].
//!
//! A method reads a [`Layout`] and never a backbone's name. It says which tensors it trains, which
//! is enough to count and to plan, and attaches them once they are allocated.

mod adapter;
mod adaptformer;
mod bitfit;
mod bottleneck;
mod dora;
mod fft;
mod frozen;
mod host;
mod ia3;
mod linear;
mod lora;
mod low_rank;
mod modules_to_save;
mod norm;
pub mod peft;
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

use serde_json::{Map, Value};
use tch::Device;

pub use modules_to_save::{attach_whole, check_whole, trainables_with};
pub use san::Mode;

use peft::{FromPeft, PeftForm};

use crate::error::did_you_mean;
use crate::nn::branch::StochasticDepth;
use crate::spec::trainable::{TrainableSpec, head_specs};
use crate::train::trainables::Trainables;
use crate::{Attachment, Error, Layout, Weights};

/// One method with its options resolved.
pub trait Method: std::fmt::Debug + Send + Sync {
    /// What its file says of it.
    fn info(&self) -> &'static MethodInfo;

    /// The registry's name.
    fn name(&self) -> &'static str {
        self.info().name
    }

    /// The method that this one extends, whose answers hold where it gives none of its own.
    fn inner(&self) -> Option<&dyn Method> {
        None
    }

    /// Name of the row in a table: the usual name, and what departs from the usual options.
    fn label(&self) -> String;

    /// All options, resolved.
    fn options(&self) -> Value;

    /// The tensors that are trained besides the head.
    ///
    /// # Errors
    /// If the method does not fit the backbone.
    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error>;

    /// The attachment over frozen weights and allocated tensors.
    ///
    /// # Errors
    /// If a tensor of [`Method::trainables`] is missing.
    fn attach(
        &self,
        layout: &Layout,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<Attachment, Error>;

    /// Tensors that stay as they are drawn, beside those that are trained (a random projection, a part
    /// of the frozen weights that an update is counted from). An adapter file holds them too.
    ///
    /// # Errors
    /// If the method does not fit the backbone.
    fn constants(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        self.inner().map_or(Ok(Vec::new()), |inner| inner.constants(layout))
    }

    /// Why no plain weights can do what a tuned model does; none where they can.
    fn unmergeable(&self) -> Option<&'static str> {
        self.inner()?.unmergeable()
    }

    /// What the method is in peft, for one run.
    ///
    /// # Errors
    /// If peft has no such method, or not on these targets.
    fn to_peft(
        &self,
        layout: &Layout,
        weights: &Weights,
        trainables: &Trainables,
        run: i64,
    ) -> Result<PeftForm, Error> {
        let _ = (layout, weights, trainables, run);
        Err(Error::Unexportable { method: self.name().into(), reason: "peft has no such method".into() })
    }

    /// Whether no gradient reaches the backbone, so that its features may be computed once.
    fn features_are_frozen(&self) -> bool {
        false
    }
}

/// What a method's file says of it.
#[derive(Debug, Clone, Copy)]
pub struct MethodInfo {
    /// Name in experiment files.
    pub name: &'static str,
    /// What it trains, in one sentence.
    pub summary: &'static str,
    /// What it costs at inference, merged where it can be.
    pub inference_cost: &'static str,
    /// Where it was published.
    pub source: &'static str,
    /// Names under which other papers' tables list it; a suffix of size (`-8`, ` r16`) is not part of them.
    pub published_as: &'static [&'static str],
    parse: fn(Value) -> Result<Box<dyn Method>, serde_json::Error>,
    /// Reads it from peft's files, where these hold it.
    pub(crate) from_peft: Option<FromPeft>,
}

/// Name of the method that trains nothing.
pub const UNTRAINED: &str = "frozen";

/// Every method, in the order in which tables show them: the two ends first (nothing trained but the head, everything
/// trained), then rivals by family and age, the method under study last.
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

/// Place of a method in a table, from 0.
pub fn table_position(name: &str) -> usize {
    REGISTRY.iter().position(|info| info.name == name).unwrap_or(REGISTRY.len())
}

fn parse<M: Method + serde::de::DeserializeOwned + 'static>(
    options: Value,
) -> Result<Box<dyn Method>, serde_json::Error> {
    Ok(Box::new(serde_json::from_value::<M>(options)?))
}

/// The method of that name with these options.
///
/// # Errors
/// If there is no such method (the nearest name is given), or an option is unknown or wrong.
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

/// Allocates the tensors of a method, of the modules that are trained whole in addition, and of a head for `classes`, one
/// run for each of `seeds`, and attaches them.
///
/// # Errors
/// If the method does not fit the backbone, or memory is missing.
pub fn prepare(
    method: &dyn Method,
    modules_to_save: &[String],
    layout: &Layout,
    weights: &Weights,
    classes: i64,
    seeds: &[u64],
    device: Device,
) -> Result<(Trainables, Attachment), Error> {
    let mut specs = trainables_with(method, modules_to_save, layout)?;
    specs.extend(head_specs(layout, classes));
    let trainables = Trainables::allocate(specs, seeds, weights, device)?
        .with_constants(&method.constants(layout)?, weights)?;
    let mut attachment = method.attach(layout, weights, &trainables)?;
    attach_whole(modules_to_save, &trainables, &mut attachment)?;
    attachment.stochastic_depth = Rc::new(StochasticDepth::new(trainables.pass().clone()));
    Ok((trainables, attachment))
}

/// A method does not fit a backbone.
fn unfit(method: &dyn Method, layout: &Layout, reason: &str) -> Error {
    Error::Unfit { method: method.name().into(), backbone: layout.backbone.clone(), reason: reason.into() }
}

/// Refuses a rank, a width or a number of prompts that no method has; products of two then stay far from overflow.
fn check_size(method: &str, option: &str, size: i64) -> Result<(), Error> {
    const MOST: i64 = 1 << 16;
    if (1..=MOST).contains(&size) {
        return Ok(());
    }
    Err(bad_option(method, &format!("`{option}` is {size}; a number from 1 to {MOST} is wanted")))
}

/// An option's value is out of the question.
fn bad_option(method: &str, reason: &str) -> Error {
    Error::BadOption { method: method.into(), reason: reason.into() }
}
