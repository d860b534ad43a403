//! Which data sets a command applies to, and where they are stored.

use std::path::{Path, PathBuf};

use anyhow::Result;
use data_loaders::{DatasetEntry, Suite, dataset, datasets};
use runner::error::RunError;

/// The data sets that an argument names.
pub(super) enum Named {
    /// One set.
    Set(&'static DatasetEntry),
    /// All sets of a suite, including the substitutes that are not part of its benchmark.
    Suite(Suite, Vec<&'static DatasetEntry>),
}

impl Named {
    /// Looks up the name of a suite or of a set.
    pub(super) fn find(name: &str) -> Result<Self> {
        let sets: Vec<_> = datasets()?.iter().filter(|entry| entry.suite.name() == name).collect();
        Ok(match sets.first() {
            Some(first) => Self::Suite(first.suite, sets),
            None => Self::Set(dataset(name)?),
        })
    }

    /// The suite of the set or sets.
    pub(super) fn suite(&self) -> Suite {
        match self {
            Self::Set(entry) => entry.suite,
            Self::Suite(suite, _) => *suite,
        }
    }
}

/// Rejects a suite of texts or questions, whose samples are not labelled images.
///
/// # Errors
/// With the reason.
pub(super) fn check_images(name: &str, suite: Suite) -> Result<()> {
    if !matches!(suite, Suite::Commonsense | Suite::Vl) {
        return Ok(());
    }
    Err(RunError::Missing {
        what: format!("an image set named `{name}`"),
        reason: format!("{} is a text suite; its sets are checked whenever they are opened", suite.name()),
    }
    .into())
}

/// The folder that holds the folders of a suite's sets: the given one, or the default under `SAN_DATA`.
pub(super) fn root(given: Option<&Path>, suite: Suite) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    Ok(from_environment("SAN_DATA", "data")?.join(suite.folder()))
}

/// The folder that an environment variable names; `what` describes its contents in the error message.
pub(super) fn from_environment(variable: &str, what: &str) -> Result<PathBuf> {
    let folder = std::env::var_os(variable).filter(|folder| !folder.is_empty());
    let folder = folder.ok_or_else(|| RunError::Missing {
        what: format!("the folder of the {what}"),
        reason: format!("set {variable}, or name the folder with --data"),
    })?;
    Ok(PathBuf::from(folder))
}
