//! Which data sets a command is about, and where they lie.

use std::path::{Path, PathBuf};

use anyhow::Result;
use data_loaders::{DatasetEntry, Suite, dataset, datasets};
use runner::error::RunError;

/// The sets that a word names.
pub(super) enum Named {
    /// One set.
    Set(&'static DatasetEntry),
    /// All of a suite, the stand-ins that are none of its benchmark's own among them.
    Suite(Suite, Vec<&'static DatasetEntry>),
}

impl Named {
    /// A suite's name, or a set's.
    pub(super) fn find(name: &str) -> Result<Self> {
        let sets: Vec<_> = datasets()?.iter().filter(|entry| entry.suite.name() == name).collect();
        Ok(match sets.first() {
            Some(first) => Self::Suite(first.suite, sets),
            None => Self::Set(dataset(name)?),
        })
    }

    /// The suite.
    pub(super) fn suite(&self) -> Suite {
        match self {
            Self::Set(entry) => entry.suite,
            Self::Suite(suite, _) => *suite,
        }
    }
}

/// Refuses a suite of text or of questions, whose samples are no images with a label.
///
/// # Errors
/// With the reason.
pub(super) fn want_images(suite: Suite) -> Result<()> {
    if !matches!(suite, Suite::Commonsense | Suite::Vl) {
        return Ok(());
    }
    Err(RunError::Missing {
        what: "an image with a label to look at".into(),
        reason: format!("{} is a suite of texts; they are checked whenever a set is opened", suite.name()),
    }
    .into())
}

/// The folder that holds the folders of a suite's sets: the one given, or the usual one under `SAN_DATA`.
pub(super) fn root(given: Option<&Path>, suite: Suite) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    Ok(from_environment("SAN_DATA", "data")?.join(suite.folder()))
}

/// The folder that a variable names; `what` it holds is for the message.
pub(super) fn from_environment(variable: &str, what: &str) -> Result<PathBuf> {
    let folder = std::env::var_os(variable).filter(|folder| !folder.is_empty());
    let folder = folder.ok_or_else(|| RunError::Missing {
        what: format!("the folder of the {what}"),
        reason: format!("set {variable}, or name the folder with --data"),
    })?;
    Ok(PathBuf::from(folder))
}
