//! The registry as a document: `DATASETS.md` is the output of [`catalogue`]; a test compares them.

use crate::registry::download::Download;
use crate::registry::entry::{ClassNames, DatasetEntry, Metric};
use crate::registry::shared::SharedEntry;

const HEAD: &str = "\
# Data sets

Written by `san datasets --markdown > DATASETS.md` from `datasets/*.yaml`. Splits are train / val / test; a
data set in italics is not part of its benchmark and is excluded from averages. A download without a published checksum
is compared with the first download.

The lists of VTAB-1k come with the archive `vtab-1k` (`san fetch vtab`): all outputs call their split `VTAB-1k`. The
original files (`--source original`) and the tables on the Hugging Face Hub (`--source hub`) are whole data sets, from
which the 1,000 training images are taken here: that is `VTAB-1k style`.
";

/// The document in Markdown: a table of the datasets, then terms, citation and downloads of each, then the files that
/// several of them share.
pub fn catalogue(entries: &[DatasetEntry], shared: &[SharedEntry]) -> String {
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
    for entry in shared {
        text += &shared_section(entry);
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
    text += &notes(&noted);
    if let Some(differs) = entry.original.as_ref().and_then(|original| original.differs.as_ref()) {
        text += &format!("- The original files differ from the benchmark: {differs}.\n");
    }
    text += &downloads(&entry.sources);
    if let Some(hub) = &entry.hub {
        let repository = &hub.repository;
        text += &format!(
            "- Tables on the Hugging Face Hub: `{}` at `{}`, columns `{}` and `{}`.\n",
            repository.id, repository.revision, hub.image, hub.label
        );
    }
    text
}

fn shared_section(entry: &SharedEntry) -> String {
    let SharedEntry { name, title, citation, licence, suite, .. } = entry;
    let mut text = format!(
        "\n## {title} (`{name}`)\n\n{citation}.\n\n- Used by the data sets of the suite `{}`; licence: {licence}.\n",
        suite.name()
    );
    let noted =
        [("Note", &entry.note), ("Terms to accept", &entry.terms), ("Manual download", &entry.manual)];
    text += &notes(&noted);
    text + &downloads(&entry.sources)
}

fn notes(noted: &[(&str, &Option<String>)]) -> String {
    noted.iter().filter_map(|(title, note)| Some(format!("- {title}: {}.\n", note.as_ref()?))).collect()
}

fn downloads(sources: &[Download]) -> String {
    sources.iter().map(|source| format!("- Download: <{}>{}\n", source.url, identity(source))).collect()
}

fn identity(source: &Download) -> String {
    let size = source.size.map_or_else(|| "size not published".to_owned(), |size| format!("{size} bytes"));
    match (&source.sha256, &source.md5) {
        (Some(hash), _) => format!(", {size}, SHA-256 `{hash}`"),
        (None, Some(hash)) => format!(", {size}, MD5 `{hash}`"),
        (None, None) => format!(", {size}, no checksum"),
    }
}
