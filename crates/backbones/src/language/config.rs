//! Validates published configurations: values that would change what a model computes are rejected unless they are
//! supported; other fields are ignored. Errors are clauses that complete a message.

use serde_json::Value;

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
