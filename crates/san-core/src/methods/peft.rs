//! How methods appear in peft: the form that each is exported to, and the helpers to import it.
//!
//! `adapters::peft` reads and writes the files; a method provides its module names, tensors and configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use tch::Tensor;

use crate::methods::patterns::Patterns;
use crate::spec::model::{Projection, SiteSpec};
use crate::{Error, ModelSpec};

/// Prefix of module names.
pub(crate) const ROOT: &str = "base_model.model.";

/// Extracts a method from peft's files; `None` if they contain a different method. The error is a clause that
/// completes a message.
pub(crate) type FromPeft = fn(&mut PeftFiles, &ModelSpec) -> Result<Option<Imported>, String>;

/// A method in peft's terms: configuration entries and tensors, named relative to `base_model.model.` or, for
/// tensors of the whole model, to `base_model.`.
#[derive(Debug, Default)]
pub struct PeftForm {
    /// Configuration entries, including `peft_type`.
    pub config: Map<String, Value>,
    /// Module tensors: `<site>.<suffix>`.
    pub modules: BTreeMap<String, Tensor>,
    /// Tensors shared by all modules.
    pub shared: BTreeMap<String, Tensor>,
}

impl PeftForm {
    /// Adds configuration entries.
    pub(super) fn configure<const N: usize>(&mut self, entries: [(&str, Value); N]) {
        self.config.extend(entries.map(|(name, value)| (name.to_owned(), value)));
    }
}

/// A method imported from peft's files: registry name, options, and tensors under this project's names.
#[derive(Debug)]
pub struct Imported {
    /// Name in the registry.
    pub method: String,
    /// Its options.
    pub options: Map<String, Value>,
    /// Trained tensors and constants of one run, including the head if the file has it.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Rejects sites that peft has no such module for.
///
/// # Errors
/// If the site is a convolution.
pub(crate) fn check_linear(method: &str, site: &SiteSpec) -> Result<(), Error> {
    if site.projection == Projection::Linear {
        return Ok(());
    }
    let reason = format!("`{}` is a convolution; choose linear targets", site.name);
    Err(Error::Unexportable { method: method.into(), reason })
}

/// The parts of peft's files that are not consumed yet.
pub(crate) struct PeftFiles {
    config: Map<String, Value>,
    alphas: Patterns,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl PeftFiles {
    /// From the text of the configuration, and the tensors.
    pub(crate) fn new(config: &[u8], tensors: BTreeMap<String, Tensor>) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Ordered {
            #[serde(default)]
            alpha_pattern: Patterns,
        }
        let Ordered { alpha_pattern } = serde_json::from_slice(config)?;
        Ok(Self { config: serde_json::from_slice(config)?, alphas: alpha_pattern, tensors })
    }

    /// `peft_type`; empty if absent.
    pub(crate) fn kind(&self) -> &str {
        self.config.get("peft_type").and_then(Value::as_str).unwrap_or("")
    }

    /// Removes and returns the tensors whose names end in `ending`, by site.
    pub(super) fn take(&mut self, ending: &str) -> BTreeMap<String, Tensor> {
        let names: Vec<String> = self.tensors.keys().filter(|name| name.ends_with(ending)).cloned().collect();
        let site = |name: &str| Some(name.strip_prefix(ROOT)?.strip_suffix(ending)?.to_owned());
        names.iter().filter_map(|name| Some((site(name)?, self.tensors.remove(name)?))).collect()
    }

    /// A number in the configuration.
    pub(super) fn number(&self, name: &str) -> Result<f64, String> {
        self.config.get(name).and_then(Value::as_f64).ok_or_else(|| format!("it has no number `{name}`"))
    }

    /// `lora_alpha` of a module, or what `alpha_pattern` gives it.
    pub(super) fn alpha(&self, module: &str) -> Result<f64, String> {
        let own = self.alphas.value(module).map_err(|reason| format!("`alpha_pattern`: {reason}"))?;
        own.map_or_else(|| self.number("lora_alpha"), Ok)
    }

    /// Whether a boolean in the configuration is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.config.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Rejects variants of LoRA that compute something else with the same tensors.
    pub(super) fn plain_lora(&self) -> Result<(), String> {
        let used =
            |name: &&&str| !matches!(self.config.get(**name), None | Some(Value::Null | Value::Bool(false)));
        match ["alora_invocation_tokens", "use_qalora", "layer_replication"].iter().find(used) {
            Some(name) => Err(format!("`{name}` is not supported")),
            None => Ok(()),
        }
    }

    /// Rejects initialisations after which the adapter belongs to changed frozen weights (PiSSA, OLoRA, CorDA, LoftQ):
    /// peft's files do not contain those, and on the published weights the adapter would compute something else.
    pub(super) fn published_base(&self) -> Result<(), String> {
        match self.config.get("init_lora_weights").and_then(Value::as_str) {
            None | Some("gaussian" | "orthogonal" | "eva") => Ok(()),
            Some(name) => Err(format!(
                "`init_lora_weights` is `{name}`, which changes the frozen weights; save the adapter with peft's \
                 `path_initial_model_for_weight_conversion` instead"
            )),
        }
    }
}

/// Options by name.
pub(super) fn options<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// The same tensors under this project's names.
pub(super) fn named(tensors: BTreeMap<String, Tensor>, what: &str) -> BTreeMap<String, Tensor> {
    tensors.into_iter().map(|(site, tensor)| (format!("{site}.{what}"), tensor)).collect()
}

/// The roles that cover exactly these sites.
pub(super) fn roles<'a>(
    model_spec: &ModelSpec,
    sites: impl Iterator<Item = &'a String>,
) -> Result<Vec<Value>, String> {
    let sites: BTreeSet<&str> = sites.map(String::as_str).collect();
    let mut roles = Vec::new();
    for site in &sites {
        let spec = model_spec
            .find_site(site)
            .ok_or(format!("`{site}` is not a projection of {}", model_spec.backbone))?;
        if !roles.contains(&spec.role) {
            roles.push(spec.role);
        }
    }
    let missing = |spec: &&SiteSpec| roles.contains(&spec.role) && !sites.contains(spec.name.as_str());
    if let Some(spec) = model_spec.sites.iter().find(missing) {
        return Err(format!("`{}` is not adapted, although others of its role are", spec.name));
    }
    roles.into_iter().map(|role| serde_json::to_value(role).map_err(|error| error.to_string())).collect()
}
