//! Adapters in the format of Hugging Face's peft: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A method that peft has too says in [`Method::to_peft`] which tensors its sites have there; this file
//! knows names, configurations and the way back. What stands on parts of a fused projection here stands
//! on the whole of it there, with the same effect. Checked against peft 0.18.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use crate::io::files::write_atomically;
use crate::io::safetensors::{TensorFile, write_tensors};
use crate::methods::Method;
use crate::spec::model::{HeadSpec, Projection, SiteSpec};
use crate::{Error, Layout, Trainables, Weights};

const CONFIG_FILE: &str = "adapter_config.json";
const TENSOR_FILE: &str = "adapter_model.safetensors";
const ROOT: &str = "base_model.model.";

/// What a method has in peft: entries of the configuration and tensors, by name behind `base_model.model.` or, for
/// those of the model as a whole, behind `base_model.`.
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

/// Writes `run` of the stack into `folder`, head included.
///
/// # Errors
/// When peft has no such method, or the folder cannot be written.
pub fn export(
    folder: &Path,
    method: &dyn Method,
    layout: &Layout,
    weights: &Weights,
    trainables: &Trainables,
    run: i64,
) -> Result<(), Error> {
    let form = method.to_peft(layout, weights, trainables, run)?;
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for name in layout.head.iter().flat_map(HeadSpec::tensors) {
        tensors.insert(format!("{ROOT}{name}"), trainables.get(&name)?.f_get(run)?);
    }
    tensors.extend(form.modules.into_iter().map(|(name, tensor)| (format!("{ROOT}{name}"), tensor)));
    tensors.extend(form.shared.into_iter().map(|(name, tensor)| (format!("base_model.{name}"), tensor)));
    let mut config = json!({
        "task_type": null,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "modules_to_save": layout.head.iter().map(|head| &head.name).collect::<Vec<_>>(),
    });
    form.config.into_iter().for_each(|(name, value)| config[name] = value);
    let text = serde_json::to_string_pretty(&config).unwrap_or_default();
    let path = folder.join(CONFIG_FILE);
    std::fs::create_dir_all(folder)
        .and_then(|()| write_atomically(&path, text.as_bytes()))
        .map_err(|source| Error::File { action: "write", path, source })?;
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(&folder.join(TENSOR_FILE), named, ("format", "pt".into()), Kind::Float).map(drop)
}

/// Reads peft's files from `folder`.
///
/// # Errors
/// When a file is missing or malformed, the method is none of ours, or it stands on modules that no
/// choice of roles gives.
pub fn import(folder: &Path, layout: &Layout) -> Result<Imported, Error> {
    let path = folder.join(CONFIG_FILE);
    let read = std::fs::read(&path);
    let text = read.map_err(|source| Error::File { action: "read", path: path.clone(), source })?;
    let malformed = |reason: String| Error::Malformed { path: path.clone(), reason };
    let config: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let mut files = Files { config, tensors: TensorFile::read(&folder.join(TENSOR_FILE))?.tensors };
    let head = layout.head.iter().flat_map(HeadSpec::tensors);
    let head: Vec<_> =
        head.filter_map(|name| Some((files.tensors.remove(&format!("{ROOT}{name}"))?, name))).collect();
    let kind = files.config.get("peft_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let imported = match kind.as_str() {
        "LORA" => files.lora(layout),
        "IA3" => files.ia3(layout),
        "VERA" => files.vera(layout),
        other => Err(format!("`peft_type` is `{other}`; LORA, IA3 and VERA can be read")),
    };
    let mut imported = imported.map_err(malformed)?;
    if let Some(name) = files.tensors.keys().next() {
        let place = folder.join(TENSOR_FILE).display().to_string();
        return Err(Error::UnexpectedTensor { name: name.clone(), place });
    }
    imported.tensors.extend(head.into_iter().map(|(tensor, name)| (name, tensor)));
    Ok(imported)
}

/// What is left to be understood of peft's files.
struct Files {
    config: Map<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

impl Files {
    /// Takes the tensors whose names end in `ending`, by site.
    fn take(&mut self, ending: &str) -> BTreeMap<String, Tensor> {
        let names: Vec<String> = self.tensors.keys().filter(|name| name.ends_with(ending)).cloned().collect();
        let site = |name: &str| Some(name.strip_prefix(ROOT)?.strip_suffix(ending)?.to_owned());
        names.iter().filter_map(|name| Some((site(name)?, self.tensors.remove(name)?))).collect()
    }

    fn number(&self, name: &str) -> Result<f64, String> {
        self.config.get(name).and_then(Value::as_f64).ok_or_else(|| format!("it has no number `{name}`"))
    }

    fn flag(&self, name: &str) -> bool {
        self.config.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Patterns give single modules another rank, which options by role cannot say.
    fn no_patterns(&self) -> Result<(), String> {
        let filled = |name: &&&str| {
            self.config.get(**name).and_then(Value::as_object).is_some_and(|patterns| !patterns.is_empty())
        };
        match ["rank_pattern", "alpha_pattern"].iter().find(filled) {
            Some(name) => Err(format!("`{name}` is not empty: all modules must have one rank")),
            None => Ok(()),
        }
    }

    fn lora(&mut self, layout: &Layout) -> Result<Imported, String> {
        self.no_patterns()?;
        let (a, b) = (self.take(".lora_A.weight"), self.take(".lora_B.weight"));
        let targets = roles(layout, a.keys())?;
        let mut options =
            json!({"rank": rank_of(&a)?, "alpha": self.number("lora_alpha")?, "targets": targets});
        let mut tensors = named(a, "lora_a");
        tensors.extend(named(b, "lora_b"));
        let rank_stabilised = self.flag("use_rslora");
        let method = if self.flag("use_dora") {
            if rank_stabilised {
                return Err("DoRA with `use_rslora` is not offered here".into());
            }
            tensors.extend(named(self.take(".lora_magnitude_vector"), "magnitude"));
            "dora"
        } else {
            if rank_stabilised {
                options["scaling"] = json!("rank_stabilised");
            }
            "lora"
        };
        Ok(imported(method, options, tensors))
    }

    fn ia3(&mut self, layout: &Layout) -> Result<Imported, String> {
        let vectors = self.take(".ia3_l");
        let (inputs, outputs): (BTreeMap<_, _>, BTreeMap<_, _>) =
            vectors.into_iter().partition(|(_, vector)| vector.size()[0] == 1);
        let options = json!({
            "targets": roles(layout, outputs.keys())?,
            "feedforward": roles(layout, inputs.keys())?,
        });
        let flat = inputs.into_iter().chain(outputs).map(|(site, vector)| (site, vector.reshape([-1])));
        Ok(imported("ia3", options, named(flat.collect(), "ia3")))
    }

    fn vera(&mut self, layout: &Layout) -> Result<Imported, String> {
        let lambda_d = self.take(".vera_lambda_d");
        let options = json!({
            "rank": lambda_d.values().next().map(Tensor::numel).unwrap_or_default(),
            "targets": roles(layout, lambda_d.keys())?,
        });
        let mut tensors = named(lambda_d, "lambda_d");
        tensors.extend(named(self.take(".vera_lambda_b"), "lambda_b"));
        for (theirs, ours) in [("base_model.vera_A", "vera.a"), ("base_model.vera_B", "vera.b")] {
            let shared = self.tensors.remove(theirs);
            let shared = shared.ok_or(format!("it has no `{theirs}`: save it with `save_projection`"))?;
            tensors.insert(ours.into(), shared);
        }
        Ok(imported("vera", options, tensors))
    }
}

fn imported(method: &str, options: Value, tensors: BTreeMap<String, Tensor>) -> Imported {
    let options = options.as_object().cloned().unwrap_or_default();
    Imported { method: method.into(), options, tensors }
}

fn named(tensors: BTreeMap<String, Tensor>, what: &str) -> BTreeMap<String, Tensor> {
    tensors.into_iter().map(|(site, tensor)| (format!("{site}.{what}"), tensor)).collect()
}

fn rank_of(a: &BTreeMap<String, Tensor>) -> Result<i64, String> {
    let ranks: BTreeSet<i64> = a.values().map(|tensor| tensor.size()[0]).collect();
    match ranks.into_iter().collect::<Vec<_>>()[..] {
        [rank] => Ok(rank),
        ref ranks => Err(format!("its modules have the ranks {ranks:?}; one is needed")),
    }
}

/// The roles whose sites these are, all of them.
fn roles<'a>(layout: &Layout, sites: impl Iterator<Item = &'a String>) -> Result<Vec<Value>, String> {
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
