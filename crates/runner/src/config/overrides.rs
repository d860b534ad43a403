//! Settings of single data sets and backbones: published recipes have a learning rate, a weight decay or an input
//! normalisation for each.
//!
//! A profile changes fields of its protocol `for_sets` and `for_backbones`; so does a method, which may also change its
//! learning rates and options. The method's word counts more than the profile's, and that for a set more than that for a
//! backbone.

use std::collections::BTreeMap;

use backbones::registry;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::experiment::{MethodSpec, OneOrMany, Profile};
use crate::tasks::Protocol;

/// Fields of a profile's protocol, as in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolOverride {
    /// The fields; those of a section are merged with the section's others.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub protocol: Map<String, Value>,
}

/// Settings of a method.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodOverride {
    /// One rate, or several to tune over, instead of the method's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<OneOrMany>,
    /// Options, in addition to the method's.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Fields of the protocol.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub protocol: Map<String, Value>,
}

/// A method and its protocol on one set and backbone.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The method, without settings of single sets or backbones.
    pub spec: MethodSpec,
    /// The protocol.
    pub protocol: Protocol,
}

impl Profile {
    /// The method's settings for a set, or a suite whose sets are trained on together, and a backbone.
    ///
    /// # Errors
    /// For a field of the protocol that is unknown, has a wrong value, or does not fit the others.
    pub fn resolved(&self, spec: &MethodSpec, set: &str, backbone: &str) -> Result<Resolved, String> {
        // `@random` selects weights, not a model.
        let backbone = backbone.split('@').next().unwrap_or(backbone);
        let common = [self.for_backbones.get(backbone), self.for_sets.get(set)];
        let own = [spec.for_backbones.get(backbone), spec.for_sets.get(set)];
        let mut fields: Vec<&Map<String, Value>> =
            common.into_iter().flatten().map(|one| &one.protocol).collect();
        fields.push(&spec.protocol);
        fields.extend(own.into_iter().flatten().map(|one| &one.protocol));
        let mut resolved = MethodSpec {
            protocol: Map::new(),
            for_sets: BTreeMap::new(),
            for_backbones: BTreeMap::new(),
            ..spec.clone()
        };
        for own in own.into_iter().flatten() {
            resolved.options.extend(own.options.clone());
            if let Some(rate) = &own.learning_rate {
                resolved.learning_rate = rate.clone();
            }
        }
        Ok(Resolved { spec: resolved, protocol: self.protocol.with_fields(&fields)? })
    }

    /// The name of a method, set and backbone whose settings are looked up, for a message.
    pub(super) fn place(spec: &MethodSpec, set: &str, backbone: &str) -> String {
        format!("method `{}` on {set} and {backbone}", spec.method)
    }

    /// Checks that every set and backbone with its own settings exists.
    pub(super) fn check_overrides(&self, units: &[String]) -> Result<(), String> {
        let methods = || self.methods.iter();
        let sets = self.for_sets.keys().chain(methods().flat_map(|spec| spec.for_sets.keys()));
        for set in sets {
            if !self.sets.contains(set) {
                return Err(format!("`for_sets`: `sets` has no `{set}`"));
            }
            if !units.contains(set) {
                return Err(format!(
                    "`for_sets`: one model is trained on all sets, so `{set}` has no own settings"
                ));
            }
        }
        let backbones = self.for_backbones.keys().chain(methods().flat_map(|spec| spec.for_backbones.keys()));
        for name in backbones.filter(|name| !self.backbones.contains(name)) {
            registry::find(name).map_err(|error| format!("`for_backbones`: {error}"))?;
        }
        let limits = methods().flat_map(|spec| &spec.backbones);
        for name in limits.filter(|name| !self.backbones.contains(name)) {
            registry::find(name).map_err(|error| format!("`backbones` of a method: {error}"))?;
        }
        for spec in
            methods().filter(|spec| spec.search.as_ref().is_some_and(|one| one.learning_rate.is_some()))
        {
            let mut own = spec.for_sets.values().chain(spec.for_backbones.values());
            if own.any(|one| one.learning_rate.is_some()) {
                return Err(format!(
                    "method `{}`: its learning rate is searched, so that of a set or backbone has no effect",
                    spec.method
                ));
            }
        }
        Ok(())
    }

    /// The settings of single methods, sets and backbones, a line for each.
    pub fn overrides_in_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut add = |who: &str, place: &str, settings: Vec<String>| {
            if !settings.is_empty() {
                lines.push(format!("{who}{place}: {}", settings.join(", ")));
            }
        };
        let is_used = |backbone: &String| {
            self.backbones.iter().any(|used| used.split('@').next() == Some(backbone.as_str()))
        };
        let fields = |protocol: &Map<String, Value>| flattened("", protocol);
        for (place, one) in self.for_backbones.iter().filter(|(name, _)| is_used(name)) {
            add("", place, fields(&one.protocol));
        }
        for (place, one) in self.for_sets.iter().filter(|(name, _)| self.sets.contains(name)) {
            add("", place, fields(&one.protocol));
        }
        for spec in &self.methods {
            add(&spec.method, "", fields(&spec.protocol));
            let of_backbones = spec.for_backbones.iter().filter(|(name, _)| is_used(name));
            let of_sets = spec.for_sets.iter().filter(|(name, _)| self.sets.contains(name));
            for (place, MethodOverride { learning_rate, options, protocol }) in of_backbones.chain(of_sets) {
                let rates = learning_rate.as_ref().map(|rates| {
                    let rates: Vec<String> = rates.all().iter().map(f64::to_string).collect();
                    format!("learning_rate {}", rates.join(" or "))
                });
                let all = rates.into_iter().chain(flattened("", options)).chain(fields(protocol));
                add(&format!("{} on ", spec.method), place, all.collect());
            }
        }
        lines
    }
}

/// Names and values of the innermost fields.
fn flattened(prefix: &str, fields: &Map<String, Value>) -> Vec<String> {
    let name = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    let of = |(key, value): (&String, &Value)| match value {
        Value::Object(inner) => flattened(&name(key), inner),
        Value::String(text) => vec![format!("{} {text}", name(key))],
        other => vec![format!("{} {other}", name(key))],
    };
    fields.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::experiment::Experiment;

    const FILE: &str = "
name: overrides
suite: vtab
profiles:
  embedded:
    data: {synthetic: {train: 8, val: 4, test: 4}}
    sets: [svhn, dtd]
    backbones: [vit_micro]
    for_backbones:
      swin_micro: {protocol: {classification: {image: {normalisation: imagenet}}}}
    for_sets:
      dtd: {protocol: {weight_decay: 0.5, epochs: 6}}
    methods:
      - method: ssf
        learning_rate: 0.1
        protocol: {ema: 0.9}
        for_sets:
          svhn: {learning_rate: [0.2, 0.3], protocol: {classification: {drop_path: 0.1}}}
          dtd: {protocol: {weight_decay: 0.25}}
      - method: lora
        learning_rate: 0.1
        for_sets: {svhn: {learning_rate: [0.2, 0.3], options: {rank: 2}}}
    seeds: [0]
    protocol:
      epochs: 4
      batch_size: 4
      classification:
        image: {image_size: 32, resize: plain, filter: bilinear, normalisation: half}
";

    fn profile(text: &str) -> Result<Profile, String> {
        Ok(Experiment::parse(text.as_bytes())?.profiles.remove("embedded").unwrap())
    }

    #[test]
    fn a_methods_word_counts_more_than_the_profiles_and_a_sets_more_than_a_backbones() {
        let profile = profile(FILE).unwrap();
        let of = |method: usize, set: &str, backbone: &str| {
            profile.resolved(&profile.methods[method], set, backbone).unwrap()
        };
        let Resolved { spec, protocol } = of(0, "dtd", "swin_micro@random");
        assert_eq!((protocol.weight_decay, protocol.epochs, protocol.ema), (0.25, 6, Some(0.9)));
        assert_eq!(spec.learning_rate, OneOrMany::One(0.1));
        let image = serde_json::to_value(protocol.classification.unwrap().image).unwrap();
        assert_eq!((&image["normalisation"], &image["image_size"]), (&"imagenet".into(), &32.into()));
        let Resolved { spec, protocol } = of(0, "svhn", "vit_micro");
        assert_eq!(spec.learning_rate, OneOrMany::Many(vec![0.2, 0.3]));
        assert_eq!(protocol.classification.unwrap().drop_path, 0.1);
        assert_eq!((protocol.weight_decay, protocol.epochs), (0.0, 4));
        assert_eq!(of(1, "svhn", "vit_micro").spec.options["rank"], 2);
        assert_eq!(of(1, "dtd", "vit_micro").protocol.ema, None);
        let words = profile.overrides_in_words();
        assert!(
            words.contains(&"ssf on svhn: learning_rate 0.2 or 0.3, classification.drop_path 0.1".into()),
            "{words:?}"
        );
        assert!(!words.iter().any(|line| line.contains("swin")), "it is not used: {words:?}");
    }

    #[test]
    fn unknown_names_and_settings_without_effect_are_refused() {
        for (from, to, reason) in [
            ("      dtd: {protocol: {weight_decay: 0.5, epochs: 6}}", "      dmlab: {}", "no `dmlab`"),
            ("swin_micro:", "swin_mikro:", "swin_micro"),
            ("{weight_decay: 0.25}", "{weight_dekay: 0.25}", "unknown field `weight_dekay`"),
            ("drop_path: 0.1", "drop_path: 1.0", "below 1"),
            ("normalisation: imagenet", "normalization: imagenet", "unknown field `normalization`"),
            ("[0.2, 0.3], options", "[0.2], options", "settings to choose from"),
            ("dtd: {protocol: {weight_decay: 0.25}}", "dtd: {rate: 0.25}", "unknown field `rate`"),
        ] {
            assert!(FILE.contains(from));
            let refused = profile(&FILE.replacen(from, to, 1)).unwrap_err();
            assert!(refused.contains(reason), "{to}: {refused}");
        }
    }
}
