//! A published LLaVA from a folder in Hugging Face's format: `config.json` and one or more safetensors files.

use std::path::Path;

use serde_json::{Value, json};

use crate::Error;
use crate::language::configure;
use crate::sizes::{check_epsilon, check_sizes};
use crate::vision::clip;
use crate::vlm::llava::{Architecture, Parts};
use crate::weights::{Collected, Target, config, shards};

/// A published model.
#[derive(Debug)]
pub struct LlavaCheckpoint {
    /// Its configuration.
    pub architecture: Architecture,
    /// Its weights.
    pub parts: Parts,
    /// blake3 of the file, hex; for several files, of their checksums in file name order.
    pub checksum: String,
}

/// Fields that the published configuration omits if they equal LLaMA-7B's.
const DEFAULTS: [(&str, i64); 5] = [
    ("hidden_size", 4096),
    ("intermediate_size", 11008),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("vocab_size", 32000),
];

/// Reads the folder.
///
/// # Errors
/// If a file is missing or malformed, the configuration is not supported, or a tensor is missing, unknown or of
/// the wrong shape.
pub fn llava(path: &Path, target: Target) -> Result<LlavaCheckpoint, Error> {
    let architecture = architecture(path)?;
    let mut collected = Collected::new(target);
    let (single, index) = (path.join("model.safetensors"), path.join(shards::INDEX));
    let (place, checksum) = if single.exists() {
        let checksum = shards::read(&single, &mut collected)?;
        (single, checksum)
    } else {
        let checksum = shards::read_all(&index, &mut collected)?;
        (index, checksum)
    };
    let parts = architecture.split(collected.into_tensors(), &place.display().to_string())?;
    Ok(LlavaCheckpoint { architecture, parts, checksum })
}

/// The architecture of a model in a folder; no tensor is read.
pub(super) fn architecture(path: &Path) -> Result<Architecture, Error> {
    let file = path.join("config.json");
    configured(&config::document(&file)?).map_err(|reason| Error::Configuration { path: file, reason })
}

/// The error is a clause that completes a message.
fn configured(published: &Value) -> Result<Architecture, String> {
    let fixed = [
        ("model_type", json!("llava")),
        ("projector_hidden_act", json!("gelu")),
        ("vision_feature_select_strategy", json!("default")),
    ];
    for (field, supported) in fixed {
        if let Some(found) = published.get(field).filter(|found| **found != supported) {
            return Err(format!("`{field}` is {found}; only {supported} is supported"));
        }
    }
    let mut vision = part(published, "vision_config")?;
    vision["vision_feature_layer"] = published.get("vision_feature_layer").cloned().unwrap_or(json!(-2));
    let tower: clip::Config = serde_json::from_value(vision).map_err(|error| error.to_string())?;
    check_tower(&tower).map_err(|reason| format!("in `vision_config`: {reason}"))?;
    let mut text = part(published, "text_config")?;
    for (field, default) in DEFAULTS {
        if text.get(field).is_none() {
            text[field] = default.into();
        }
    }
    if text.get("model_type").is_none() {
        text["model_type"] = "llama".into();
    }
    let language = configure(text)?;
    let image_token = published.get("image_token_index").or_else(|| published.get("image_token_id"));
    let image_token = image_token.and_then(Value::as_i64).ok_or("`image_token_index` is missing")?;
    if image_token < 0 {
        return Err(format!("`image_token_index` is {image_token}; expected a token id"));
    }
    Ok(Architecture { tower: Box::new(tower), language, image_token })
}

/// Checks that sizes are consistent.
fn check_tower(tower: &clip::Config) -> Result<(), String> {
    check_sizes(&[
        ("image_size", tower.image_size),
        ("patch_size", tower.patch_size),
        ("hidden_size", tower.hidden_size),
        ("intermediate_size", tower.intermediate_size),
        ("num_hidden_layers", tower.num_hidden_layers),
        ("num_attention_heads", tower.num_attention_heads),
    ])?;
    check_epsilon("layer_norm_eps", tower.layer_norm_eps)?;
    if tower.image_size % tower.patch_size != 0 {
        return Err("`patch_size` does not divide `image_size`".into());
    }
    if tower.hidden_size % tower.num_attention_heads != 0 {
        return Err("`num_attention_heads` does not divide `hidden_size`".into());
    }
    Ok(())
}

fn part(published: &Value, name: &str) -> Result<Value, String> {
    published.get(name).filter(|part| part.is_object()).cloned().ok_or_else(|| format!("`{name}` is missing"))
}
