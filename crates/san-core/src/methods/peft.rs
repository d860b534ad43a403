//! What methods have in peft: the form in which each writes itself, and what each needs to read itself back.
//!
//! `adapters::peft` reads and writes the files; a method names its modules, tensors and configuration there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use tch::Tensor;

use crate::spec::model::{Projection, SiteSpec};
use crate::{Error, Layout};

/// What stands before the names of modules.
pub(crate) const ROOT: &str = "base_model.model.";

/// Takes a method out of peft's files; none where they hold another one. The reason of a failure is a clause.
pub(crate) type FromPeft = fn(&mut PeftFiles, &Layout) -> Result<Option<Imported>, String>;

/// What a method has in peft: entries of the configuration and tensors, by name after `base_model.model.` or, for
/// those of the model as a whole, after `base_model.`.
#[derive(Debug, Default)]
pub struct PeftForm {
    /// Entries of the configuration, `peft_type` among them.
    pub config: Map<String, Value>,
    /// Tensors of modules: `<site>.<what>`.
    pub modules: BTreeMap<String, Tensor>,
    /// Tensors that all modules share.
    pub shared: BTreeMap<String, Tensor>,
}

/// A method as it comes from peft's files: its registry name, options, and tensors by our names.
#[derive(Debug)]
pub struct Imported {
    /// Name in the registry.
    pub method: String,
    /// Its options.
    pub options: Map<String, Value>,
    /// Trained tensors and constants of one run, the head among them where the file has it.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Refuses sites that peft has no module of this form for.
///
/// # Errors
/// For a convolution.
pub(crate) fn check_linear(method: &str, site: &SiteSpec) -> Result<(), Error> {
    if site.projection == Projection::Linear {
        return Ok(());
    }
    let reason = format!("`{}` is a convolution; choose targets that are linear", site.name);
    Err(Error::Unexportable { method: method.into(), reason })
}

/// What is left to be understood of peft's files.
pub(crate) struct PeftFiles {
    config: Map<String, Value>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl PeftFiles {
    pub(crate) fn new(config: Map<String, Value>, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { config, tensors }
    }

    /// `peft_type`; empty where there is none.
    pub(crate) fn kind(&self) -> &str {
        self.config.get("peft_type").and_then(Value::as_str).unwrap_or("")
    }

    /// Takes the tensors whose names end in `ending`, by site.
    pub(super) fn take(&mut self, ending: &str) -> BTreeMap<String, Tensor> {
        let names: Vec<String> = self.tensors.keys().filter(|name| name.ends_with(ending)).cloned().collect();
        let site = |name: &str| Some(name.strip_prefix(ROOT)?.strip_suffix(ending)?.to_owned());
        names.iter().filter_map(|name| Some((site(name)?, self.tensors.remove(name)?))).collect()
    }

    /// A number of the configuration.
    pub(super) fn number(&self, name: &str) -> Result<f64, String> {
        self.config.get(name).and_then(Value::as_f64).ok_or_else(|| format!("it has no number `{name}`"))
    }

    /// Whether a switch of the configuration is on.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.config.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Patterns give single modules another rank, which options by role cannot say.
    pub(super) fn no_patterns(&self) -> Result<(), String> {
        let filled = |name: &&&str| {
            self.config.get(**name).and_then(Value::as_object).is_some_and(|patterns| !patterns.is_empty())
        };
        match ["rank_pattern", "alpha_pattern"].iter().find(filled) {
            Some(name) => Err(format!("`{name}` is not empty: all modules must have one rank")),
            None => Ok(()),
        }
    }
}

/// What a method read, by its name.
pub(super) fn imported(method: &str, options: Value, tensors: BTreeMap<String, Tensor>) -> Imported {
    let options = match options {
        Value::Object(options) => options,
        _ => Map::new(),
    };
    Imported { method: method.into(), options, tensors }
}

/// The same tensors by our names.
pub(super) fn named(tensors: BTreeMap<String, Tensor>, what: &str) -> BTreeMap<String, Tensor> {
    tensors.into_iter().map(|(site, tensor)| (format!("{site}.{what}"), tensor)).collect()
}

/// The one rank that all modules have.
pub(super) fn rank_of(a: &BTreeMap<String, Tensor>) -> Result<i64, String> {
    let ranks: BTreeSet<i64> = a.values().map(|tensor| tensor.size()[0]).collect();
    match ranks.into_iter().collect::<Vec<_>>()[..] {
        [rank] => Ok(rank),
        ref ranks => Err(format!("its modules have the ranks {ranks:?}; one is needed")),
    }
}

/// The roles whose sites these are, all of them.
pub(super) fn roles<'a>(
    layout: &Layout,
    sites: impl Iterator<Item = &'a String>,
) -> Result<Vec<Value>, String> {
    let sites: BTreeSet<&str> = sites.map(String::as_str).collect();
    let mut roles = Vec::new();
    for site in &sites {
        let spec =
            layout.find_site(site).ok_or(format!("`{site}` is no projection of {}", layout.backbone))?;
        if !roles.contains(&spec.role) {
            roles.push(spec.role);
        }
    }
    let missing = |spec: &&SiteSpec| roles.contains(&spec.role) && !sites.contains(spec.name.as_str());
    if let Some(spec) = layout.sites.iter().find(missing) {
        return Err(format!("`{}` is left out, though its likes are adapted", spec.name));
    }
    roles.into_iter().map(|role| serde_json::to_value(role).map_err(|error| error.to_string())).collect()
}
