//! Names of table rows: methods that differ in an option have different names.

use serde_json::{Map, Value};

use crate::Error;
use crate::methods::{MethodInfo, bad_option};

/// A method's title, and in brackets every option that differs from its default and that the title does not show.
///
/// # Errors
/// If an option cannot be written as JSON.
pub(super) fn complete(
    info: &MethodInfo,
    title: String,
    options: &Map<String, Value>,
) -> Result<String, Error> {
    let parsed =
        |options: Value| (info.parse)(options).map_err(|error| bad_option(info.name, &error.to_string()));
    let defaults = Value::Object(parsed(Value::Object(Map::new()))?.options()?);
    let options = Value::Object(options.clone());
    let mut others = Vec::new();
    for path in differing("", &options, &defaults) {
        // The title shows an option if it changes with it.
        let mut without = options.clone();
        if let (Some(own), Some(default)) = (without.pointer_mut(&path), defaults.pointer(&path)) {
            *own = default.clone();
        }
        if parsed(without)?.title() == title {
            others.push(shown(&path, options.pointer(&path).unwrap_or(&Value::Null)));
        }
    }
    Ok(match (others.join(", "), title.strip_suffix(')')) {
        (others, _) if others.is_empty() => title,
        (others, Some(open)) => format!("{open}, {others})"),
        (others, None) => format!("{title} ({others})"),
    })
}

/// JSON pointers to the options that have another value than by default; a host's options are options too.
fn differing(path: &str, options: &Value, defaults: &Value) -> Vec<String> {
    match (options, defaults) {
        (Value::Object(options), Value::Object(defaults)) => {
            let below = |(name, value): (&String, &Value)| {
                differing(&format!("{path}/{name}"), value, defaults.get(name).unwrap_or(&Value::Null))
            };
            options.iter().flat_map(below).collect()
        }
        _ if options == defaults => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

/// `name value`, `name` or `no name`.
fn shown(path: &str, value: &Value) -> String {
    let name = path.rsplit('/').next().unwrap_or(path).replace('_', " ");
    let word = |value: &Value| match (value, value.as_f64()) {
        (Value::String(text), _) => text.clone(),
        (_, Some(number)) => number.to_string(),
        (other, None) => other.to_string(),
    };
    match value {
        Value::Bool(true) => name,
        Value::Bool(false) | Value::Null => format!("no {name}"),
        Value::Array(values) => {
            format!("{name} {}", values.iter().map(word).collect::<Vec<_>>().join("+"))
        }
        other => format!("{name} {}", word(other)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::methods::{REGISTRY, find};

    fn label(method: &str, options: Value) -> String {
        find(method, options.as_object().unwrap().clone()).unwrap().label().unwrap()
    }

    #[test]
    fn options_that_the_title_does_not_show_follow_in_brackets() {
        for (method, options, expected) in [
            ("lora", json!({"alpha": 8}), "LoRA"),
            ("lora", json!({"alpha": 16}), "LoRA (alpha 16)"),
            ("lora", json!({"rank": 4, "alpha": 4.5}), "LoRA r=4 (alpha 4.5)"),
            ("dora", json!({"targets": ["q", "v"], "alpha": 16}), "DoRA (q, v, alpha 16)"),
            ("san_lora", json!({"host": {"alpha": 16}}), "SAN-LoRA (alpha 16)"),
            ("vera", json!({"rank": 64, "targets": ["q", "v"]}), "VeRA r=64 (targets q+v)"),
            ("ia3", json!({"targets": ["k"]}), "IA3 (targets k)"),
            ("adaptformer", json!({"scale": 0.5}), "AdaptFormer (scale 0.5)"),
            ("vpt", json!({"deep": false}), "VPT-shallow"),
            ("san", json!({"shift": true}), "SAN (shift)"),
        ] {
            assert_eq!(label(method, options.clone()), expected, "{method} {options}");
        }
    }

    #[test]
    fn every_option_of_every_method_is_in_its_label() {
        for info in REGISTRY {
            let defaults = (info.parse)(json!({})).unwrap().options().unwrap();
            let mut labels = BTreeSet::from([label(info.name, json!({}))]);
            let mut paths: Vec<Vec<&str>> = Vec::new();
            for (name, value) in &defaults {
                match value {
                    Value::Object(host) => paths.extend(host.keys().map(|own| vec![name.as_str(), own])),
                    _ => paths.push(vec![name]),
                }
            }
            for path in &paths {
                let default = path.iter().fold(&json!(defaults), |at, name| &at[*name]).clone();
                let other = [json!(3), json!(0.3), json!(["q"]), json!(!default.as_bool().unwrap_or(true))]
                    .into_iter()
                    .chain(["nt", "full", "authors", "pissa", "rank_stabilised"].map(|word| json!(word)));
                let found: Vec<_> = other
                    .filter(|value| *value != default)
                    .map(|value| path.iter().rev().fold(value, |below, name| json!({*name: below})))
                    .filter_map(|options| (info.parse)(options).ok()?.label().ok())
                    .collect();
                assert!(!found.is_empty(), "{}: no other value of {path:?} is known", info.name);
                assert!(found.into_iter().any(|label| labels.insert(label)), "{}: {path:?}", info.name);
            }
        }
    }
}
