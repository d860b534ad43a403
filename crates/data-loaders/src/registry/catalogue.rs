//! The registry as a document: `DATASETS.md` is the output of [`catalogue`]; a test compares them.

use crate::registry::entry::{ClassNames, DatasetEntry, Download, Metric};

const HEAD: &str = "\
# Data sets

Written by `san datasets --markdown > DATASETS.md` from `datasets/*.yaml`. Splits are train / val / test; a
data set in italics is not part of its benchmark and is excluded from averages. A download has no checksum where its
publisher provides none.
";

/// The document in Markdown: a table of the datasets, then terms, citation and downloads of each.
pub fn catalogue(entries: &[DatasetEntry]) -> String {
    let mut text = format!(
        "{HEAD}\n| set | suite | group | classes | splits | metric | licence |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for entry in entries {
        text += &row(entry);
    }
    for entry in entries {
        text += &section(entry);
    }
    text
}

fn row(entry: &DatasetEntry) -> String {
    let name = if entry.official { format!("`{}`", entry.name) } else { format!("*`{}`*", entry.name) };
    let parts = entry
        .splits
        .map(|n| format!("{} / {} / {}", n.train, n.val, n.test))
        .or_else(|| entry.text.map(|text| format!("shared / shared / {}", text.test_rows)))
        .or_else(|| entry.questions.map(|asked| format!("mixture / none / {}", asked.test_questions)))
        .unwrap_or_else(|| "own lists".to_owned());
    let metric = match entry.metric {
        Metric::Accuracy if entry.text.is_some() => "accuracy of the answer",
        Metric::Accuracy => "top-1 accuracy",
        Metric::Score => "score of the answer",
    };
    let group = format!("{:?}", entry.group).to_lowercase().replace("finegrained", "fine-grained");
    let group = group.replace("visionlanguage", "vision and language");
    let classes =
        if entry.questions.is_some() { "free answers".to_owned() } else { entry.classes.to_string() };
    format!(
        "| {name} | {} | {group} | {} | {parts} | {metric} | {} |\n",
        entry.suite.name(),
        classes,
        entry.licence,
    )
}

fn section(entry: &DatasetEntry) -> String {
    let mut text = format!("\n## {} (`{}`)\n\n{}.\n\n", entry.title, entry.name, entry.citation);
    let classes = match &entry.class_names {
        ClassNames::Listed(names) => names.join(", "),
        ClassNames::Rule(rule) => rule.clone(),
    };
    if entry.questions.is_none() {
        text += &format!("- Classes: {classes}.\n");
    }
    let noted = [
        ("Metric", &entry.metric_note),
        ("Terms to accept", &entry.terms),
        ("Manual download", &entry.manual),
    ];
    for (title, note) in noted {
        if let Some(note) = note {
            text += &format!("- {title}: {note}.\n");
        }
    }
    for source in &entry.sources {
        text += &format!("- Download: <{}>{}\n", source.url, identity(source));
    }
    text
}

fn identity(source: &Download) -> String {
    let size = source.size.map_or_else(|| "size not published".to_owned(), |size| format!("{size} bytes"));
    match (&source.sha256, &source.md5) {
        (Some(hash), _) => format!(", {size}, SHA-256 `{hash}`"),
        (None, Some(hash)) => format!(", {size}, MD5 `{hash}`"),
        (None, None) => format!(", {size}, no checksum"),
    }
}
