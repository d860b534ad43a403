//! Files that several datasets of a suite use: archives of all their folders, and training data. One YAML file each
//! under `datasets/shared/`.

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::registry::download::{Distribution, Download, SetFolder};
use crate::registry::entry::{DatasetEntry, Suite};

/// Files that several datasets of a suite use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedEntry {
    /// The identifier, and the name of the YAML file.
    pub name: String,
    /// The name in documents.
    pub title: String,
    /// The suite.
    pub suite: Suite,
    /// Terms of use, in short.
    pub licence: String,
    /// Terms that have to be accepted before a download.
    #[serde(default)]
    pub terms: Option<String>,
    /// The publication to cite.
    pub citation: String,
    /// What a user should know.
    #[serde(default)]
    pub note: Option<String>,
    /// The folder next to those of the datasets; the folder that contains them if left out.
    #[serde(default = "here")]
    pub folder: String,
    /// The downloads.
    pub sources: Vec<Download>,
    /// Number of training rows or conversations in it.
    #[serde(default)]
    pub examples: Option<usize>,
    /// Manual steps in addition.
    #[serde(default)]
    pub manual: Option<String>,
    /// Whether the files are the folders of the suite's official datasets, which then need no other download.
    #[serde(default)]
    pub replaces_sets: bool,
    /// The folders of these datasets.
    #[serde(skip)]
    sets: Vec<SetFolder>,
}

fn here() -> String {
    ".".to_owned()
}

impl SharedEntry {
    /// Parses one entry from the text of a file; `file` is its name for messages.
    pub(super) fn parse(file: &str, text: &str, datasets: &[DatasetEntry]) -> Result<Self, DataError> {
        let fault = |reason: String| DataError::Registry { file: format!("shared/{file}"), reason };
        let mut entry: Self = serde_yaml::from_str(text).map_err(|error| fault(error.to_string()))?;
        if format!("{}.yaml", entry.name) != file {
            return Err(fault(format!("the name of the entry is `{}`", entry.name)));
        }
        entry.sources.iter().try_for_each(|source| source.check().map_err(&fault))?;
        if entry.replaces_sets {
            let of_suite = datasets.iter().filter(|set| set.official && set.suite == entry.suite);
            entry.sets = of_suite.map(folder_of).collect();
        }
        Ok(entry)
    }

    /// The files that can be fetched.
    pub fn distribution(&self) -> Distribution<'_> {
        Distribution {
            name: &self.name,
            folder: &self.folder,
            sources: &self.sources,
            repository: None,
            sets: &self.sets,
            terms: self.terms.as_deref(),
            manual: self.manual.as_deref(),
        }
    }
}

fn folder_of(entry: &DatasetEntry) -> SetFolder {
    let mut names = vec![entry.folder().to_owned()];
    names.extend(entry.other_folders.iter().cloned());
    SetFolder { set: entry.name.clone(), names, folder: entry.folder().to_owned() }
}
