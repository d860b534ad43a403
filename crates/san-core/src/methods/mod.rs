//! The registry of methods: a method is one entry here and one file beside.
//!
//! A method reads a [`Layout`] and never a backbone's name. It says which tensors it trains, which
//! is enough to count and to plan, and attaches them once they are allocated.

mod beside;
mod bottleneck;
mod dora;
mod host;
mod ia3;
mod lora;
mod low_rank;
mod partial;
mod san;
mod ssf;
mod targets;
mod vera;
mod vpt;
mod whole;

use std::rc::Rc;

use serde_json::{Map, Value};
use tch::Device;

pub use beside::beside;
pub use san::Mode;

use crate::branch::StochasticDepth;
use crate::error::did_you_mean;
use crate::peft_format::PeftForm;
use crate::trainables::{TrainableSpec, Trainables, head_specs};
use crate::{Attachment, Error, Layout, Weights};

/// One method with its options resolved.
pub trait Method: std::fmt::Debug + Send + Sync {
    /// The registry's name.
    fn name(&self) -> &'static str;

    /// Name of the row in a table: the usual name, and what departs from the usual options.
    fn label(&self) -> String;

    /// All options, resolved.
    fn options(&self) -> Value;

    /// The tensors that are trained besides the head.
    ///
    /// # Errors
    /// When the method does not fit the backbone.
    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error>;

    /// The attachment over frozen weights and allocated tensors.
    ///
    /// # Errors
    /// When a tensor of [`Method::trainables`] is missing.
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
    /// When the method does not fit the backbone.
    fn constants(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        let _ = layout;
        Ok(Vec::new())
    }

    /// Why no plain weights can do what a tuned model does; none where they can.
    fn unmergeable(&self) -> Option<&'static str> {
        None
    }

    /// What the method is in peft, for one run.
    ///
    /// # Errors
    /// When peft has no such method, or not on these targets.
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

/// A method in the registry.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name in experiment files.
    pub name: &'static str,
    /// What it trains, in one sentence.
    pub summary: &'static str,
    /// What it costs at inference, merged where it can be.
    pub inference_cost: &'static str,
    /// Where it was published.
    pub source: &'static str,
    parse: fn(Value) -> Result<Box<dyn Method>, serde_json::Error>,
}

/// Name of the method that trains nothing.
pub const UNTRAINED: &str = "frozen";

/// Every method.
pub const REGISTRY: &[Entry] = &[
    Entry {
        name: UNTRAINED,
        summary: "nothing: a language model as it is",
        inference_cost: "none",
        source: "zero-shot reading",
        parse: parse::<whole::Frozen>,
    },
    Entry {
        name: "linear",
        summary: "the head alone, on frozen features",
        inference_cost: "none",
        source: "linear probe",
        parse: parse::<whole::Linear>,
    },
    Entry {
        name: "fft",
        summary: "every parameter (full fine-tuning)",
        inference_cost: "none",
        source: "full fine-tuning",
        parse: parse::<whole::Full>,
    },
    Entry {
        name: "bitfit",
        summary: "the bias of every projection and norm",
        inference_cost: "none",
        source: "Ben Zaken et al., arXiv 2106.10199",
        parse: parse::<partial::BitFit>,
    },
    Entry {
        name: "norm",
        summary: "weight and bias of every norm",
        inference_cost: "none",
        source: "norm tuning",
        parse: parse::<partial::Norms>,
    },
    Entry {
        name: "lora",
        summary: "a low-rank update beside chosen projections",
        inference_cost: "none when merged",
        source: "Hu et al., arXiv 2106.09685; rsLoRA 2312.03732; PiSSA 2404.02948",
        parse: parse::<lora::Lora>,
    },
    Entry {
        name: "dora",
        summary: "LoRA's direction and a magnitude of each row",
        inference_cost: "none when merged",
        source: "Liu et al., arXiv 2402.09353",
        parse: parse::<dora::Dora>,
    },
    Entry {
        name: "ia3",
        summary: "a scale on keys, values and the hidden layer of MLPs",
        inference_cost: "none when merged",
        source: "Liu et al., arXiv 2205.05638",
        parse: parse::<ia3::Ia3>,
    },
    Entry {
        name: "vera",
        summary: "two vectors a projection between shared random matrices",
        inference_cost: "none when merged",
        source: "Kopiczko et al., arXiv 2310.11454",
        parse: parse::<vera::Vera>,
    },
    Entry {
        name: "ssf",
        summary: "a scale and a shift behind every projection and norm",
        inference_cost: "none when merged",
        source: "Lian et al., arXiv 2210.08823",
        parse: parse::<ssf::Ssf>,
    },
    Entry {
        name: "adapter",
        summary: "a bottleneck behind every attention and MLP",
        inference_cost: "two small products a branch",
        source: "Houlsby et al., arXiv 1902.00751",
        parse: parse::<bottleneck::Houlsby>,
    },
    Entry {
        name: "adaptformer",
        summary: "a bottleneck beside every MLP",
        inference_cost: "two small products a block",
        source: "Chen et al., arXiv 2205.13535",
        parse: parse::<bottleneck::AdaptFormer>,
    },
    Entry {
        name: "vpt",
        summary: "prompts among the tokens",
        inference_cost: "a longer sequence",
        source: "Jia et al., arXiv 2203.12119",
        parse: parse::<vpt::Vpt>,
    },
    Entry {
        name: "san",
        summary: "a scale behind every projection, propagated into the next one's weights; the norms",
        inference_cost: "none when merged",
        source: "arXiv 2409.06706",
        parse: parse::<san::San>,
    },
    Entry {
        name: "san_lora",
        summary: "LoRA, whose change of each row's norm is propagated into the next projection",
        inference_cost: "none when merged",
        source: "arXiv 2409.06706; the decomposition is this project's",
        parse: parse::<host::Hosted<lora::Lora>>,
    },
    Entry {
        name: "san_dora",
        summary: "DoRA, whose magnitudes are propagated into the next projection",
        inference_cost: "none when merged",
        source: "arXiv 2409.06706; the decomposition is this project's",
        parse: parse::<host::Hosted<dora::Dora>>,
    },
    Entry {
        name: "san_ssf",
        summary: "SSF, whose scales are propagated into the next projection",
        inference_cost: "none when merged",
        source: "arXiv 2409.06706; the decomposition is this project's",
        parse: parse::<host::Hosted<ssf::Ssf>>,
    },
];

fn parse<M: Method + serde::de::DeserializeOwned + 'static>(
    options: Value,
) -> Result<Box<dyn Method>, serde_json::Error> {
    Ok(Box::new(serde_json::from_value::<M>(options)?))
}

/// The method of that name with these options.
///
/// # Errors
/// When there is no such method (the nearest name is given), or an option is unknown or wrong.
pub fn find(name: &str, options: Map<String, Value>) -> Result<Box<dyn Method>, Error> {
    let Some(entry) = REGISTRY.iter().find(|entry| entry.name == name) else {
        return Err(Error::UnknownMethod {
            name: name.into(),
            hint: did_you_mean(name, REGISTRY.iter().map(|entry| entry.name)),
        });
    };
    (entry.parse)(Value::Object(options))
        .map_err(|error| Error::BadOption { method: name.into(), reason: error.to_string() })
}

/// Allocates a method's tensors and those of a head for `classes`, one run for each of `seeds`, and
/// attaches the method.
///
/// # Errors
/// When the method does not fit the backbone, or memory is missing.
pub fn prepare(
    method: &dyn Method,
    layout: &Layout,
    weights: &Weights,
    classes: i64,
    seeds: &[u64],
    device: Device,
) -> Result<(Trainables, Attachment), Error> {
    let mut specs = method.trainables(layout)?;
    specs.extend(head_specs(layout, classes));
    let trainables = Trainables::allocate(specs, seeds, weights, device)?
        .with_constants(&method.constants(layout)?, weights)?;
    let mut attachment = method.attach(layout, weights, &trainables)?;
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
