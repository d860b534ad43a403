//! Published recipes, and in which recorded fields the runs of a table deviate from the one that they name.
//!
//! results/reference/recipes.csv has a row for each field of a recipe, for a method, backbone and data set or `*`; later
//! rows count more. A value may list alternatives (`0.001 or 0.01`: a grid), and `none` or 0 is also a field that the
//! record does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::comparison::origin::flatten;
use crate::error::ReportError;
use crate::load::Stored;
use crate::record::Record;

const RECIPES: &str = include_str!("../../../../results/reference/recipes.csv");

/// The largest number of places of a deviation that are listed.
const MOST_LISTED: usize = 4;

/// A field of a recipe.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RecipeField {
    /// Name of the recipe.
    pub recipe: String,
    /// The suite that it is for.
    pub suite: String,
    /// Registry name of the method, or `*`.
    pub method: String,
    /// The backbone, or `*`.
    pub backbone: String,
    /// The data set, or `*`.
    pub dataset: String,
    /// The field of the record's protocol, or `options.<option>` of the method.
    pub field: String,
    /// Its value, or several.
    pub value: String,
    /// Where it was read.
    pub source: String,
}

/// The fields of all recipes.
///
/// # Errors
/// When results/reference/recipes.csv is malformed.
pub fn fields() -> Result<&'static [RecipeField], ReportError> {
    // A plan of thousands of runs checks the recipe of each.
    static FIELDS: OnceLock<Vec<RecipeField>> = OnceLock::new();
    if let Some(fields) = FIELDS.get() {
        return Ok(fields);
    }
    let rows = csv::Reader::from_reader(RECIPES.as_bytes()).deserialize().collect::<Result<_, _>>();
    let rows = rows.map_err(|error: csv::Error| ReportError::Format {
        what: "results/reference/recipes.csv".into(),
        reason: error.to_string(),
    })?;
    Ok(FIELDS.get_or_init(|| rows))
}

/// Names of all recipes.
///
/// # Errors
/// As [`fields`].
pub fn names() -> Result<BTreeSet<&'static str>, ReportError> {
    Ok(fields()?.iter().map(|field| field.recipe.as_str()).collect())
}

/// A sentence for each recipe that records name: in which fields they deviate from it.
pub(super) fn notes(records: &[Stored]) -> Vec<String> {
    let mut of_recipes: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for Stored { record, .. } in records {
        if let Some(recipe) = record.protocol["recipe"].as_str() {
            of_recipes.entry(recipe).or_default().push(record);
        }
    }
    if of_recipes.is_empty() {
        return Vec::new();
    }
    match fields() {
        Ok(all) => of_recipes.iter().map(|(name, records)| note(name, records, all)).collect(),
        Err(error) => vec![format!("Warning: {error}.")],
    }
}

fn note(name: &str, records: &[&Record], all: &[RecipeField]) -> String {
    // Where each deviation occurs, in the order of the file.
    let mut deviations: Vec<(String, BTreeSet<String>)> = Vec::new();
    let mut compared = 0;
    let places: BTreeSet<String> = records.iter().map(|record| place(record)).collect();
    for record in records {
        let recorded = recorded(record);
        for field in recipe_of(name, record, all) {
            compared += 1;
            let ours = recorded.get(&field.field).map(String::as_str);
            if is_equal(ours, &field.value) {
                continue;
            }
            let text = format!("{} {} instead of {}", field.field, ours.unwrap_or("none"), field.value);
            match deviations.iter_mut().find(|(other, _)| *other == text) {
                Some((_, places)) => _ = places.insert(place(record)),
                None => deviations.push((text, BTreeSet::from([place(record)]))),
            }
        }
    }
    if compared == 0 {
        return format!("The recipe {name} has no values for these runs.");
    }
    let one = |(text, found): &(String, BTreeSet<String>)| match found.len() {
        count if count == places.len() => text.clone(),
        count if count <= MOST_LISTED => format!("{text} ({})", Vec::from_iter(found.clone()).join(", ")),
        count => format!("{text} ({count} of {} methods and sets)", places.len()),
    };
    match deviations[..] {
        [] => format!("Follows the recipe {name} in every recorded field."),
        _ => format!("Deviates from {name}: {}.", deviations.iter().map(one).collect::<Vec<_>>().join("; ")),
    }
}

fn place(record: &Record) -> String {
    format!("{} on {}", record.method.label, record.dataset.name)
}

/// The recipe's last row for each field that is for this record.
fn recipe_of<'a>(name: &str, record: &Record, all: &'a [RecipeField]) -> Vec<&'a RecipeField> {
    let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
    let mut found: Vec<&RecipeField> = Vec::new();
    let own = all.iter().filter(|field| {
        field.recipe == name
            && field.suite == record.suite
            && fits(&field.method, &record.method.name)
            && fits(&field.backbone, &record.backbone.name)
            && fits(&field.dataset, &record.dataset.name)
    });
    for field in own {
        match found.iter_mut().find(|other| other.field == field.field) {
            Some(other) => *other = field,
            None => found.push(field),
        }
    }
    found
}

/// The fields of the protocol, and the options of the method.
fn recorded(record: &Record) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    flatten("", &record.protocol, &mut fields);
    flatten("options", &record.method.config, &mut fields);
    fields.entry("precision".into()).or_insert_with(|| "f32".into());
    fields
}

fn is_equal(ours: Option<&str>, published: &str) -> bool {
    published.split(" or ").any(|value| match (ours, value.parse::<f64>()) {
        (None, Ok(number)) => number == 0.0,
        (None, Err(_)) => matches!(value, "none" | "false"),
        (Some(ours), Ok(number)) => ours.parse() == Ok(number),
        (Some(ours), Err(_)) => ours == value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers_and_an_absent_field_is_none_or_zero() {
        for (ours, published, equal) in [
            (Some("0.0001"), "1e-4", true),
            (Some("0.01"), "0.001 or 0.01", true),
            (Some("0.02"), "0.001 or 0.01", false),
            (None, "0", true),
            (None, "none", true),
            (None, "0.1", false),
            (Some("half"), "imagenet", false),
            (Some("[0.9,0.999]"), "[0.9,0.999]", true),
        ] {
            assert_eq!(is_equal(ours, published), equal, "{ours:?} {published}");
        }
    }

    #[test]
    fn every_recipe_has_one_value_for_each_place_and_a_source() {
        let all = fields().unwrap();
        let mut seen = BTreeSet::new();
        for RecipeField { recipe, suite, method, backbone, dataset, field, source, .. } in all {
            assert!(!source.is_empty(), "{field}");
            assert!(
                seen.insert((recipe, suite, method, backbone, dataset, field)),
                "{recipe} {suite} {dataset} {field}"
            );
        }
    }
}
