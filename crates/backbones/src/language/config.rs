//! Validates published configurations: values that would change what a model computes are rejected unless they are
//! supported; other fields are ignored. Errors are clauses that complete a message.

use serde_json::Value;

/// Maximum number of blocks; the largest LLaMA has 126.
const MAX_BLOCKS: i64 = 1024;

/// Checks fields that change what a model computes against their supported values; an absent field is `null`.
pub(super) fn check_fixed(published: &Value, fixed: &[(&str, &[Value])]) -> Result<(), String> {
    for (field, supported) in fixed {
        let value = published.get(*field).unwrap_or(&Value::Null);
        if !supported.contains(value) {
            return Err(format!("`{field}` is {value}, which is not supported"));
        }
    }
    Ok(())
}

/// Normalises rotary fields of older and newer transformers versions to those of `decoder::Config`: `type` becomes
/// `rope_type`, and a joint `rope_parameters` is split.
pub(super) fn normalise(mut published: Value) -> Value {
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
    published
}

/// Checks a model's sizes, by field: values below 1 or far above any real model's are rejected, so that no
/// product of two overflows.
pub(crate) fn check_sizes(sizes: &[(&str, i64)]) -> Result<(), String> {
    for (field, value) in sizes {
        let max = if *field == "num_hidden_layers" { MAX_BLOCKS } else { (1 << 28) - 1 };
        if !(1..=max).contains(value) {
            return Err(format!("`{field}` is {value}; expected a number from 1 to {max}"));
        }
    }
    Ok(())
}

/// Checks the epsilon of a model's norms.
pub(crate) fn check_epsilon(field: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    Err(format!("`{field}` is {value}; expected a number above 0 and below 1"))
}
