//! A method as the command line names it: `lora`, or `lora(rank=16, learning_rate=[1e-3, 5e-3])`.

use std::str::FromStr;

use san_core::methods;
use serde_json::{Map, Value};

use crate::config::experiment::OneOrMany;

/// The key that sets learning rates; no method has an option of this name.
const LEARNING_RATE: &str = "learning_rate";

/// A method, its options and its learning rates.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodChoice {
    /// Name in the registry of methods.
    pub method: String,
    /// Options, in addition to the profile's.
    pub options: Map<String, Value>,
    /// Its learning rates instead of the profile's.
    pub learning_rate: Option<OneOrMany>,
}

impl FromStr for MethodChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (method, inside) = match text.trim().split_once('(') {
            None => (text.trim(), ""),
            Some((method, rest)) => {
                let inside = rest.strip_suffix(')').ok_or("the bracket `(` is not closed at the end")?;
                (method.trim(), inside)
            }
        };
        let (mut options, mut learning_rate) = (Map::new(), None);
        for setting in settings(inside)? {
            let (name, value) =
                setting.split_once('=').ok_or_else(|| format!("`{}` is not `name=value`", setting.trim()))?;
            let (name, value) = (name.trim(), value.trim());
            let parsed: Value =
                serde_yaml::from_str(value).map_err(|error| format!("`{name}` is `{value}`: {error}"))?;
            let known = match name {
                LEARNING_RATE => {
                    let rates = serde_json::from_value(parsed);
                    let rates =
                        rates.map_err(|_| format!("`{value}` is not a learning rate or a list of them"))?;
                    learning_rate.replace(rates).is_some()
                }
                _ => options.insert(name.to_owned(), parsed).is_some(),
            };
            if known {
                return Err(format!("`{name}` is set twice"));
            }
        }
        methods::find(method, options.clone()).map_err(|error| error.to_string())?;
        Ok(Self { method: method.to_owned(), options, learning_rate })
    }
}

/// The parts between commas that are not within brackets.
fn settings(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (place, letter) in text.char_indices() {
        match letter {
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..place]);
                start = place + 1;
            }
            _ => {}
        }
        if depth < 0 {
            return Err(format!("`{text}` closes a bracket that was not opened"));
        }
    }
    if depth != 0 {
        return Err(format!("`{text}` does not close a bracket"));
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_parsed_as_in_an_experiment_file() {
        let choice: MethodChoice =
            "lora(rank=16, targets=[q, v], learning_rate=[1e-3, 5e-3])".parse().unwrap();
        let options = json!({"rank": 16, "targets": ["q", "v"]});
        assert_eq!((choice.method.as_str(), Value::Object(choice.options)), ("lora", options));
        assert_eq!(choice.learning_rate, Some(OneOrMany::Many(vec![1e-3, 5e-3])));
        let plain: MethodChoice = " san ".parse().unwrap();
        assert_eq!((plain.method.as_str(), plain.options.len(), plain.learning_rate), ("san", 0, None));
        let one: MethodChoice = "lora(learning_rate=0.002)".parse().unwrap();
        assert_eq!(one.learning_rate, Some(OneOrMany::One(0.002)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            ("lorra", "lora"),
            ("lora(rank=16", "not closed"),
            ("lora(rank)", "`rank` is not `name=value`"),
            ("lora(rank=4, rank=8)", "set twice"),
            ("lora(size=4)", "size"),
            ("lora(targets=[q)", "does not close"),
            ("lora(targets=q])", "not opened"),
            ("lora(learning_rate=fast)", "not a learning rate"),
        ] {
            let refused = text.parse::<MethodChoice>().unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }
}
