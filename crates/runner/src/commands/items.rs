//! What a name on the command line stands for: data sets, files that several of them share, or published weights.

use std::path::{Path, PathBuf};

use anyhow::Result;
use data_loaders::{DatasetEntry, Distribution, Inspect, PlannedFile, SharedEntry, shared_files};
use runner::error::RunError;
use runner::models::published::{PublishedWeights, inspect};

use crate::commands::sets::{self, Named};

/// A copy of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SetSource {
    /// The archive of the whole benchmark that papers use.
    Published,
    /// Tables on the Hugging Face Hub.
    Hub,
    /// The files of the authors.
    Original,
}

/// What can be fetched by name: a data set, files that several share, or the weights of a backbone.
pub(super) struct Item<'a> {
    pub(super) distribution: Distribution<'a>,
    /// Licence, terms and citation, for the user.
    pub(super) notice: String,
    /// What to do after the fetch.
    pub(super) next: String,
    /// Checks its files before they are moved into place.
    pub(super) inspect: Option<Inspect>,
    pub(super) files: Vec<PlannedFile>,
}

/// The items that a name stands for.
pub(super) struct Found<'a> {
    pub(super) items: Vec<Item<'a>>,
    /// Whether it names a single one.
    pub(super) alone: bool,
    /// The folder that theirs go into.
    pub(super) root: PathBuf,
}

impl<'a> Found<'a> {
    /// The sets, files or weights of this name; `data` is the folder that the user named.
    pub(super) fn by_name(
        name: &str,
        source: Option<SetSource>,
        data: Option<&Path>,
        published: Option<&'a PublishedWeights>,
    ) -> Result<Self> {
        if let Some(published) = published {
            let root = match data {
                Some(data) => data.to_owned(),
                None => sets::from_environment("SAN_WEIGHTS", "weights")?,
            };
            return Ok(Self { items: vec![of_weights(name, published)], alone: true, root });
        }
        if let Some(shared) = shared_files()?.iter().find(|shared| shared.name == name) {
            let root = sets::root(data, shared.suite)?;
            return Ok(Self { items: vec![of_shared(shared)], alone: true, root });
        }
        let named = Named::find(name)?;
        let suite = named.suite();
        let root = sets::root(data, suite)?;
        let of_suite = || shared_files().map(|all| all.iter().filter(move |shared| shared.suite == suite));
        let whole = of_suite()?.find(|shared| shared.replaces_sets);
        let is_suite = matches!(named, Named::Suite(..));
        let entries = match (named, source, whole) {
            (Named::Suite(..), None | Some(SetSource::Published), Some(whole)) => {
                return Ok(Self { items: vec![of_shared(whole)], alone: true, root });
            }
            (_, Some(SetSource::Published), whole) => {
                let other = whole.map_or_else(String::new, |whole| {
                    format!("; `san fetch {}` has all of them", whole.name)
                });
                let reason = format!("there is no archive of {name} alone{other}");
                return Err(RunError::CommandLine { reason }.into());
            }
            (Named::Set(entry), ..) => vec![entry],
            (Named::Suite(_, all), ..) => all.into_iter().filter(|entry| entry.official).collect(),
        };
        let from_hub = source == Some(SetSource::Hub);
        let mut items: Vec<Item> = entries.into_iter().map(|entry| of_set(entry, from_hub)).collect();
        if is_suite {
            items.extend(of_suite()?.filter(|shared| !shared.replaces_sets).map(of_shared));
        }
        Ok(Self { alone: !is_suite, items, root })
    }
}

fn of_weights<'a>(name: &str, published: &'a PublishedWeights) -> Item<'a> {
    let mut notice = format!("{name}: licence and citation: {}", published.home);
    if let Some(note) = published.note {
        notice += &format!("\n  {note}");
    }
    Item {
        distribution: published.distribution(),
        notice,
        next: format!("experiments refer to it as `{name}`"),
        inspect: Some(inspect),
        files: Vec::new(),
    }
}

fn of_shared(shared: &SharedEntry) -> Item<'_> {
    let SharedEntry { name, title, citation, licence, terms, manual, note, .. } = shared;
    let mut notice = format!("{name}: {title}; {citation}; licence: {licence}");
    let more = [("terms to accept", terms), ("note", note), ("manual download", manual)];
    for (what, text) in more.into_iter().filter_map(|(what, text)| Some((what, text.as_ref()?))) {
        notice += &format!("\n  {what}: {text}");
    }
    let next = if shared.replaces_sets {
        format!("`san verify {}` checks every image", shared.suite.name())
    } else {
        format!("experiments of {} read it", shared.suite.name())
    };
    Item { distribution: shared.distribution(), notice, next, inspect: None, files: Vec::new() }
}

fn of_set(entry: &DatasetEntry, from_hub: bool) -> Item<'_> {
    const NOT_ON_HUB: &str = "it is not on the Hugging Face Hub as tables; fetch its original files";
    let not_there = || Distribution { sources: &[], manual: Some(NOT_ON_HUB), ..entry.distribution() };
    let distribution =
        if from_hub { entry.hub_distribution().unwrap_or_else(not_there) } else { entry.distribution() };
    Item {
        distribution,
        notice: notice(entry, from_hub),
        next: format!("`san verify {}` checks every image", entry.name),
        inspect: None,
        files: Vec::new(),
    }
}

/// Licence, terms and citation.
fn notice(entry: &DatasetEntry, from_hub: bool) -> String {
    let mut text = format!("{}: {}; licence: {}", entry.name, entry.citation, entry.licence);
    let original = entry.original.as_ref().filter(|_| !from_hub);
    let notes = [
        ("terms to accept", entry.terms.as_ref()),
        ("manual download", entry.manual.as_ref().filter(|_| !from_hub)),
        ("different from the benchmark", original.and_then(|original| original.differs.as_ref())),
    ];
    for (what, note) in notes.into_iter().filter_map(|(what, note)| Some((what, note?))) {
        text += &format!("\n  {what}: {note}");
    }
    text
}
