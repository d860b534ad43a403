//! Folders of timm's models: `config.json` as `timm.models.save_for_hf` and the Hub's `timm/...` repositories have it.
//!
//! The file names the architecture, whose constructor arguments are only in timm's code: `timm_models.json` lists them,
//! written by tools/timm_models.py. `model_args` in the file count more. The input that the weights were trained on is in
//! `pretrained_cfg`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use san_core::error::did_you_mean;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::Architecture;
use crate::vision::{convnext, swin, vit};

/// What timm knows, as JSON.
const MODELS: &str = include_str!("timm_models.json");

/// The input that weights were trained on: fields of timm's `pretrained_cfg`, under their names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PretrainedConfig {
    /// Channels, height and width.
    pub input_size: [i64; 3],
    /// The kernel of resizing: `bilinear` or `bicubic`.
    pub interpolation: String,
    /// The input's share of the resized image's shorter side.
    #[serde(default = "whole")]
    pub crop_pct: f64,
    /// `center`: the shorter side is resized and the centre is cropped; `squash`: both sides are resized.
    #[serde(default = "center")]
    pub crop_mode: String,
    /// Means of the normalisation, red, green, blue; values are in [0, 1] before.
    pub mean: [f64; 3],
    /// Its standard deviations.
    pub std: [f64; 3],
}

fn whole() -> f64 {
    1.0
}

fn center() -> String {
    "center".into()
}

/// A model of a folder.
#[derive(Debug)]
pub struct TimmModel {
    /// Its architecture, for images of its own size.
    pub architecture: Box<dyn Architecture>,
    /// The input of its weights, if the file says it.
    pub pretrained: Option<PretrainedConfig>,
}

#[derive(Debug, Deserialize)]
struct Models {
    architectures: BTreeMap<String, Map<String, Value>>,
    pretrained: BTreeMap<String, PretrainedConfig>,
}

static KNOWN: LazyLock<Result<Models, String>> =
    LazyLock::new(|| serde_json::from_str(MODELS).map_err(|error| format!("timm_models.json: {error}")));

/// The input of published weights, by their name (`<architecture>.<tag>`).
pub fn pretrained(name: &str) -> Option<PretrainedConfig> {
    KNOWN.as_ref().ok()?.pretrained.get(name).cloned()
}

/// Whether a name is that of published weights of an architecture that is supported: `<architecture>.<tag>`.
pub fn is_published(name: &str) -> bool {
    let Some((architecture, _)) = name.split_once('.') else { return false };
    configure(architecture, None, &Map::new()).is_ok()
}

/// The file's architecture and input. The error is a clause that completes a message.
///
/// # Errors
/// If the architecture is unknown, or has a part that is not supported.
pub fn configured(document: &Value) -> Result<TimmModel, String> {
    let name = document.get("architecture").and_then(Value::as_str).ok_or("`architecture` is missing")?;
    let pretrained = document.get("pretrained_cfg").filter(|section| !section.is_null());
    let pretrained: Option<PretrainedConfig> = pretrained
        .map(|section| serde_json::from_value(section.clone()))
        .transpose()
        .map_err(|error| format!("`pretrained_cfg`: {error}"))?;
    let size = pretrained.as_ref().map(|pretrained| pretrained.input_size[1]);
    let empty = Map::new();
    let arguments = match document.get("model_args") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err("`model_args` is not an object".into()),
    };
    // The pooling that the model was made with; it may differ from its architecture's.
    let mut arguments = arguments.clone();
    if let Some(pool) =
        document.get("global_pool").filter(|pool| pool.as_str().is_some_and(|one| !one.is_empty()))
    {
        arguments.entry("global_pool").or_insert_with(|| pool.clone());
    }
    Ok(TimmModel { architecture: configure(name, size, &arguments)?, pretrained })
}

/// Arguments without an effect on what a model computes here: of the head, of training, of initialisation, and of
/// images of other sizes.
const WITHOUT_EFFECT: [&str; 14] = [
    "num_classes",
    "drop_rate",
    "head_drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "head_init_scale",
    "dynamic_img_size",
    "dynamic_img_pad",
    "strict_img_size",
];

fn configure(
    name: &str,
    size: Option<i64>,
    given: &Map<String, Value>,
) -> Result<Box<dyn Architecture>, String> {
    let known = &KNOWN.as_ref().map_err(Clone::clone)?.architectures;
    let listed = known.get(name).ok_or_else(|| {
        let hint = Some(did_you_mean(name, known.keys().map(String::as_str)));
        // All two hundred would be no help.
        let hint = hint.filter(|hint| hint.len() < 100).map_or(String::new(), |hint| format!("; {hint}"));
        format!("`{name}` is not one of timm's ViT, Swin or ConvNeXt architectures{hint}")
    })?;
    let mut arguments = listed.clone();
    let class = arguments.remove("class");
    let class = class.as_ref().and_then(Value::as_str).unwrap_or_default();
    if let Some(size) = size {
        arguments.insert("img_size".into(), size.into());
    }
    arguments.extend(given.clone());
    arguments.retain(|name, _| !WITHOUT_EFFECT.contains(&name.as_str()));
    remove_if(&mut arguments, "in_chans", &json!(3))?;
    match class {
        "VisionTransformer" => {
            remove_if(&mut arguments, "pos_embed", &json!("learn"))?;
            let defaults =
                json!({"img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12});
            build::<vit::Config>(defaults, arguments)
        }
        "SwinTransformer" => {
            // Swin has one way of pooling.
            remove_if(&mut arguments, "global_pool", &json!("avg"))?;
            let defaults = json!({"img_size": 224, "embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]});
            build::<swin::Config>(defaults, arguments)
        }
        "ConvNeXt" => {
            remove_if(&mut arguments, "global_pool", &json!("avg"))?;
            remove_if(&mut arguments, "stem_type", &json!("patch"))?;
            // The same numbers in another layout.
            arguments.remove("conv_mlp");
            let defaults = json!({"depths": [3, 3, 9, 3], "dims": [96, 192, 384, 768]});
            build::<convnext::Config>(defaults, arguments)
        }
        other => Err(format!("timm's class `{other}` is not supported")),
    }
}

/// Removes an argument that has the only supported value.
fn remove_if(arguments: &mut Map<String, Value>, name: &str, supported: &Value) -> Result<(), String> {
    match arguments.remove(name) {
        Some(value) if value != *supported => {
            Err(format!("`{name}` is {value}; only {supported} is supported"))
        }
        _ => Ok(()),
    }
}

/// A configuration under timm's argument names.
pub(super) trait TimmConfig: Architecture + DeserializeOwned + 'static {
    /// Checks that sizes are consistent. The error is a clause that completes a message.
    fn check(&self) -> Result<(), String>;
}

fn build<C: TimmConfig>(
    defaults: Value,
    arguments: Map<String, Value>,
) -> Result<Box<dyn Architecture>, String> {
    let with = |some: &Map<String, Value>| -> Result<C, String> {
        let mut all = defaults.as_object().cloned().unwrap_or_default();
        all.extend(some.clone());
        serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())
    };
    // Which argument is wrong is not part of the error for its value.
    for (name, value) in &arguments {
        with(&Map::from_iter([(name.clone(), value.clone())]))
            .map_err(|reason| format!("`{name}` is {value}: {reason}"))?;
    }
    let config = with(&arguments)?;
    config.check()?;
    // The size may not fit the patches.
    config.at_image_size(config.image_size()).map_err(|error| error.to_string())
}
