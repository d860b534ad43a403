//! Where the records of a comparison come from, their protocol, and warnings for the reader.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::comparison::DatasetColumn;
use crate::load::Stored;
use crate::record::Record;

/// Code, machine and protocol of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Origin {
    /// Commits of the code, sorted.
    pub commits: Vec<String>,
    /// Whether any record was made with uncommitted changes.
    pub dirty: bool,
    /// Devices, sorted.
    pub devices: Vec<String>,
    /// Whose splits the data sets have (`VTAB-1k`, `VTAB-1k style`, ...), sorted; empty if no record says so.
    pub splits: Vec<String>,
    /// Protocol fields that all records share (`optimiser.weight_decay` -> `0`).
    pub protocol: BTreeMap<String, String>,
    /// Protocol fields that differ between records, because they were tuned or depend on the data set.
    pub varying: Vec<String>,
    /// Reasons why the records are less comparable than they appear.
    pub warnings: Vec<String>,
}

impl Origin {
    pub(super) fn of(records: &[Stored], datasets: &[DatasetColumn]) -> Self {
        let (protocol, varying) = shared_fields(records.iter().map(|stored| &stored.record.protocol));
        Self {
            commits: distinct(records, |record| record.provenance.commit.clone()),
            dirty: records.iter().any(|stored| stored.record.provenance.dirty),
            devices: distinct(records, |record| record.provenance.device.clone()),
            splits: records
                .iter()
                .filter_map(|stored| stored.record.dataset.source.clone())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            protocol,
            varying,
            warnings: warnings(records, datasets),
        }
    }
}

/// Names of the protocol's and the method's fields in which two records differ.
pub(super) fn differing_fields(first: &Record, second: &Record) -> String {
    let (_, mut fields) = shared_fields([&first.protocol, &second.protocol].into_iter());
    fields.extend(shared_fields([&first.method.config, &second.method.config].into_iter()).1);
    if fields.is_empty() { "no field of protocol or method".into() } else { fields.join(", ") }
}

fn distinct(records: &[Stored], of: fn(&Record) -> String) -> Vec<String> {
    records.iter().map(|stored| of(&stored.record)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Flattens each value to dotted fields; those equal everywhere, and the names of the others.
fn shared_fields<'a>(values: impl Iterator<Item = &'a Value>) -> (BTreeMap<String, String>, Vec<String>) {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut appearances: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for value in values {
        count += 1;
        let mut fields = BTreeMap::new();
        flatten("", value, &mut fields);
        for (name, text) in fields {
            *appearances.entry(name.clone()).or_default() += 1;
            seen.entry(name).or_default().insert(text);
        }
    }
    let (shared, varying): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|(name, texts)| texts.len() == 1 && appearances[name] == count);
    let shared =
        shared.into_iter().filter_map(|(name, texts)| Some((name, texts.into_iter().next()?))).collect();
    (shared, varying.into_iter().map(|(name, _)| name).collect())
}

/// Adds the innermost fields of a value under their dotted names.
pub(crate) fn flatten(prefix: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&path, member, fields);
            }
        }
        // An empty list carries no information.
        Value::Array(members) if members.is_empty() => {}
        Value::String(text) => _ = fields.insert(prefix.into(), text.clone()),
        Value::Null => _ = fields.insert(prefix.into(), "none".into()),
        other => _ = fields.insert(prefix.into(), other.to_string()),
    }
}

fn warnings(records: &[Stored], datasets: &[DatasetColumn]) -> Vec<String> {
    let mut warnings = Vec::new();
    if distinct(records, |record| record.backbone.checksum.clone()).len() > 1 {
        warnings.push("The weights of the backbone differ between runs.".into());
    }
    for dataset in datasets {
        let checksums: BTreeSet<&str> = records
            .iter()
            .filter(|stored| stored.record.dataset.name == dataset.name)
            .map(|stored| stored.record.dataset.checksum.as_str())
            .collect();
        if checksums.len() > 1 {
            warnings.push(format!("The data of {} differ between runs.", dataset.name));
        }
    }
    let mut by_split: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Record { dataset, .. } in records.iter().map(|stored| &stored.record) {
        if let Some(source) = &dataset.source {
            by_split.entry(source).or_default().insert(&dataset.name);
        }
    }
    if by_split.len() > 1 {
        let listed = by_split
            .iter()
            .map(|(split, sets)| format!("{split}: {}", sets.iter().copied().collect::<Vec<_>>().join(", ")));
        warnings.push(format!("The splits are of several kinds: {}.", listed.collect::<Vec<_>>().join("; ")));
    }
    let present: BTreeSet<u32> = datasets.iter().map(|dataset| dataset.order).collect();
    let all = present.last().map_or(0..0, |last| 0..*last);
    let absent: Vec<String> =
        all.filter(|order| !present.contains(order)).map(|order| (order + 1).to_string()).collect();
    if !absent.is_empty() {
        warnings.push(format!(
            "No method has a record for these data sets of the suite: no. {}.",
            absent.join(", ")
        ));
    }
    warnings
}
