//! Validates `config.json` of a published LLaMA: unknown values that would change the architecture are
//! rejected; other fields are ignored.

use std::path::Path;

use san_core::Error;
use san_core::io::files;
use serde_json::Value;

use crate::language::llama::Config;
use crate::language::rope::Scaling;

/// Fields that change what the model computes, with their supported values.
const FIXED: [(&str, &[Value]); 5] = [
    ("attention_bias", &[Value::Null, Value::Bool(false)]),
    ("mlp_bias", &[Value::Null, Value::Bool(false)]),
    ("quantization_config", &[Value::Null]),
    ("sliding_window", &[Value::Null]),
    ("partial_rotary_factor", &[Value::Null]),
];

/// Maximum size of a configuration or index file; those of the largest models have about 100 kB.
pub(super) const MOST_BYTES: u64 = 1 << 24;
/// Maximum number of blocks; the largest LLaMA has 126.
const MOST_BLOCKS: i64 = 1024;

/// Reads a configuration.
pub(super) fn read(path: &Path) -> Result<Config, Error> {
    let published = document(path)?;
    parse(published).map_err(|reason| Error::Configuration { path: path.into(), reason })
}

/// A configuration file as JSON.
pub(super) fn document(path: &Path) -> Result<Value, Error> {
    let text = files::read(path, MOST_BYTES)?;
    let malformed =
        |error: serde_json::Error| Error::Configuration { path: path.into(), reason: error.to_string() };
    serde_json::from_slice(&text).map_err(malformed)
}

/// The configuration of a LLaMA; the error is a clause that completes a message.
pub(super) fn parse(mut published: Value) -> Result<Config, String> {
    for (field, usual) in [("model_type", "llama"), ("hidden_act", "silu")] {
        match published.get(field) {
            None => {}
            Some(value) if value == usual => {}
            Some(other) => return Err(format!("`{field}` is {other}; `{usual}` is built")),
        }
    }
    for (field, allowed) in FIXED {
        let value = published.get(field).unwrap_or(&Value::Null);
        if !allowed.contains(value) {
            return Err(format!("`{field}` is {value}, which is not built"));
        }
    }
    modernise(&mut published);
    let config: Config = serde_json::from_value(published).map_err(|error| error.to_string())?;
    check(&config).map(|()| config)
}

/// Normalises rotary fields of older and newer transformers versions to those of [`Config`]: `type` becomes
/// `rope_type`, and a joint `rope_parameters` is split.
fn modernise(published: &mut Value) {
    if let Some(parameters) = published.get("rope_parameters").filter(|value| value.is_object()).cloned() {
        if let Some(theta) = parameters.get("rope_theta") {
            published["rope_theta"] = theta.clone();
        }
        published["rope_scaling"] = parameters;
    }
    if let Some(scaling) = published.get_mut("rope_scaling").and_then(Value::as_object_mut) {
        scaling.remove("rope_theta");
        if let Some(kind) = scaling.remove("type") {
            scaling.entry("rope_type").or_insert(kind);
        }
    }
}

/// Checks a model's sizes, by field: values below 1 or far above any real model's are rejected, so that no
/// product of two overflows.
pub(super) fn check_sizes(sizes: &[(&str, i64)]) -> Result<(), String> {
    for (field, value) in sizes {
        let most = if *field == "num_hidden_layers" { MOST_BLOCKS } else { (1 << 28) - 1 };
        if !(1..=most).contains(value) {
            return Err(format!("`{field}` is {value}; a number from 1 to {most} is wanted"));
        }
    }
    Ok(())
}

/// Checks the epsilon of a model's norms.
pub(super) fn check_epsilon(field: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    Err(format!("`{field}` is {value}; a number above 0 and below 1 is wanted"))
}

/// Checks that sizes are consistent; also used for configurations from other files than `config.json`.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    let key_heads = config.num_key_value_heads.unwrap_or(config.num_attention_heads);
    let sizes = [
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("num_hidden_layers", config.num_hidden_layers),
        ("num_attention_heads", config.num_attention_heads),
        ("num_key_value_heads", key_heads),
        ("vocab_size", config.vocab_size),
        ("max_position_embeddings", config.max_position_embeddings),
    ];
    check_sizes(&sizes)?;
    check_epsilon("rms_norm_eps", config.rms_norm_eps)?;
    if !(config.rope_theta.is_finite() && config.rope_theta >= 1.0) {
        return Err(format!("`rope_theta` is {}; a finite number from 1 on is wanted", config.rope_theta));
    }
    config.rope_scaling.as_ref().map_or(Ok(()), Scaling::check)?;
    if config.num_attention_heads % key_heads != 0 {
        return Err(format!(
            "`num_key_value_heads` is {key_heads}, which does not divide `num_attention_heads`, {}",
            config.num_attention_heads
        ));
    }
    if config.head_dim.is_none() && config.hidden_size % config.num_attention_heads != 0 {
        return Err("`num_attention_heads` does not divide `hidden_size`".into());
    }
    let width = config.head_width();
    if width < 2 || width % 2 != 0 || width > 1 << 16 {
        return Err(format!("heads of {width} channels cannot be turned in pairs"));
    }
    Ok(())
}
