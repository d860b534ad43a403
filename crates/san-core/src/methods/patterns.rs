//! peft's patterns: values for the modules whose names a regular expression matches.

use std::fmt;

use regex::Regex;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Keys and values in the order of the file, which decides between several keys that match.
#[derive(Debug, Default)]
pub(super) struct Patterns(Vec<(String, f64)>);

impl Patterns {
    /// The value of the first key that matches the module's name, or its end after a dot (peft's `get_pattern_key`).
    ///
    /// # Errors
    /// If a key is not a regular expression that is supported here; Python's lookarounds, for example, are not.
    pub(super) fn value(&self, module: &str) -> Result<Option<f64>, String> {
        for (key, value) in &self.0 {
            let pattern = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$"))
                .map_err(|_| format!("`{key}` is not a regular expression that is supported here"))?;
            if pattern.is_match(module) {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Patterns;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of patterns to numbers")
            }

            fn visit_unit<E>(self) -> Result<Patterns, E> {
                Ok(Patterns::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns, A::Error> {
                let mut patterns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    patterns.push(entry);
                }
                Ok(Patterns(patterns))
            }
        }

        deserializer.deserialize_any(InOrder)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_whole_names_and_ends_after_a_dot_in_the_order_of_the_file() {
        let text = r#"{"^blocks.0.attn.proj": 1, "proj": 2, "blocks\\.[12]\\.mlp\\.fc1": 3, "mlp.fc1": 4}"#;
        let patterns: Patterns = serde_json::from_str(text).unwrap();
        for (module, value) in [
            ("blocks.0.attn.proj", Some(1.0)),
            ("x.blocks.0.attn.proj", Some(2.0)),
            ("blocks.1.attn.proj", Some(2.0)),
            ("blocks.1.attn.out_proj", None),
            ("blocks.2.mlp.fc1", Some(3.0)),
            ("blocks.3.mlp.fc1", Some(4.0)),
            ("blocks.3.mlp.fc12", None),
        ] {
            assert_eq!(patterns.value(module).unwrap(), value, "{module}");
        }
        let lookahead: Patterns = serde_json::from_str(r#"{"(?!proj).*": 1}"#).unwrap();
        assert!(lookahead.value("proj").unwrap_err().contains("(?!proj).*"));
    }
}
