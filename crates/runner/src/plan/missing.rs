//! What a profile needs and is not there: sets, files that several sets share, and weights, each with the commands that
//! bring it and the size of the download.
//!
//! Only the presence of files and folders is checked here, so that the list is complete and immediate. What is there is
//! opened by the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use backbones::registry::{self, Origin};
use data_loaders::{DatasetEntry, Distribution, Download, SplitCounts, dataset, shared_files};
use indicatif::HumanBytes;

use crate::config::experiment::Profile;
use crate::error::{MISSING_DATA, MISSING_WEIGHTS, RunError};
use crate::messages::counted;
use crate::models::backbone::RANDOM;
use crate::models::place;
use crate::models::published::{conversion, converted, published_weights};
use crate::resources::{DataSource, Resources};
use crate::tasks::Unit;

/// Something that is missing.
#[derive(Debug)]
struct Item {
    /// Names of the sets, or of the model.
    names: Vec<String>,
    /// Commands and manual steps, in order.
    steps: Vec<String>,
    /// What is downloaded; empty if nothing is.
    files: Vec<Download>,
    /// Whether a server lists the files, so that their sizes are unknown here.
    listed_elsewhere: bool,
    /// Bytes of its weights by the number of their parameters, if their files have no published size.
    estimated: Option<u64>,
}

/// Everything that a profile needs and that is missing.
#[derive(Debug, Default)]
pub struct Missing {
    data: Vec<Item>,
    models: Vec<Item>,
    /// Why parts that are there cannot be used.
    faults: Vec<String>,
    /// Environment variables that are to name folders.
    unset: Vec<&'static str>,
}

impl Missing {
    /// Looks for the sets and models of a profile.
    ///
    /// # Errors
    /// When a set is unknown.
    pub(super) fn of(profile: &Profile, resources: &Resources) -> Result<Self> {
        let (data, models) = (resources.data.root(), resources.models.root());
        let mut missing = Self { data: missing_data(profile, data)?, ..Self::default() };
        let parts: BTreeSet<&str> = profile.backbones.iter().flat_map(|name| parts(name)).collect();
        missing.models = parts.into_iter().filter_map(|name| missing_model(name, models)).collect();
        for (variable, root, items) in
            [("SAN_DATA", data, &missing.data), ("SAN_WEIGHTS", models, &missing.models)]
        {
            if root.is_none() && !items.is_empty() {
                missing.unset.push(variable);
            }
        }
        Ok(missing)
    }

    /// Whether everything is there.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.models.is_empty()
    }

    /// Whether a set, or a file of training data, is missing.
    pub(super) fn lacks_data(&self, name: &str) -> bool {
        names(&self.data).any(|other| other == name)
    }

    /// Whether any data that a unit is trained or evaluated on are missing.
    pub(super) fn lacks_any_data_of(&self, unit: &Unit, source: &DataSource) -> bool {
        unit.names().into_iter().any(|name| self.lacks_data(name))
            || self.available(source).as_ref() != Some(source)
    }

    /// Whether a model, or a part of it, is missing.
    pub(super) fn lacks_model(&self, name: &str) -> bool {
        parts(name).any(|part| names(&self.models).any(|other| other == part))
    }

    /// The source without the files of training data that are missing; `None` if nothing can be opened without them.
    pub(super) fn available(&self, source: &DataSource) -> Option<DataSource> {
        let mut source = source.clone();
        match &mut source {
            DataSource::Rows { source, .. } if self.lacks_data(&source.training_file) => return None,
            DataSource::Questions { source, .. } => {
                source.mixture.retain(|file| !self.lacks_data(&stem(&file.file)));
            }
            _ => {}
        }
        Some(source)
    }

    /// Number of published conversations in the files of a mixture that are missing.
    pub(super) fn published_mixture(&self, source: &DataSource) -> usize {
        let DataSource::Questions { source, .. } = source else { return 0 };
        let files = source.mixture.iter().map(|file| stem(&file.file)).filter(|file| self.lacks_data(file));
        files.filter_map(|file| published_examples(&file)).sum()
    }

    /// An error of a part that is there: returned if nothing is missing, and otherwise listed.
    pub(super) fn or_list<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(error) if !self.is_empty() => {
                let fault = format!("{error:#}");
                if !self.faults.contains(&fault) {
                    self.faults.push(fault);
                }
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// The whole list, as text.
    pub fn in_words(&self) -> String {
        let mut text = String::new();
        for (what, items) in [("data", &self.data), ("weights", &self.models)] {
            if !items.is_empty() {
                text += &format!("\nmissing {what}:\n");
            }
            for item in items {
                let size = item.size().map_or_else(String::new, |size| format!(" ({size})"));
                text += &format!("  {}{size}\n", item.names.join(", "));
                for step in &item.steps {
                    text += &format!("      {step}\n");
                }
            }
        }
        if !self.faults.is_empty() {
            text += &format!("\nthere, but unusable:\n  {}\n", self.faults.join("\n  "));
        }
        text += &format!("\n{}\n", self.total());
        for variable in &self.unset {
            text += &format!("{variable} is not set: it names the folder that these files go into\n");
        }
        text
    }

    /// How much is to be downloaded; a file of several sets counts once.
    fn total(&self) -> String {
        let all = || self.data.iter().chain(&self.models);
        let unestimated = || all().filter(|item| item.estimated.is_none());
        let files = unestimated().flat_map(|item| &item.files);
        let sizes: BTreeMap<&str, Option<u64>> = files.map(|file| (file.url.as_str(), file.size)).collect();
        let known: u64 = sizes.values().flatten().sum();
        let unknown = sizes.values().filter(|size| size.is_none()).count();
        let mut parts = Vec::new();
        if known > 0 {
            parts.push(HumanBytes(known).to_string());
        }
        if unknown > 0 {
            parts.push(format!("{} of unpublished size", counted(unknown, "file")));
        }
        let estimated: u64 = all().filter_map(|item| item.estimated).sum();
        if estimated > 0 {
            parts.push(format!("about {} of weights", HumanBytes(estimated)));
        }
        let repositories = unestimated().filter(|item| item.listed_elsewhere).count();
        if repositories > 0 {
            let models = counted(repositories, "model");
            parts.push(format!("{models} whose files the Hub lists (`san fetch <name> --dry-run`)"));
        }
        if parts.is_empty() {
            "nothing to download".into()
        } else {
            format!("to download: {}", parts.join(", and "))
        }
    }

    /// The refusal of everything that needs a complete plan; `plan` is the command that prints the list.
    pub(super) fn refusal(&self, plan: &str) -> RunError {
        let listed = |items| names(items).collect::<Vec<_>>().join(", ");
        let mut what = Vec::new();
        if !self.data.is_empty() {
            what.push(format!("the data of {}", listed(&self.data)));
        }
        if !self.models.is_empty() {
            what.push(format!("the weights of {}", listed(&self.models)));
        }
        let only = match (&self.data[..], &self.models[..]) {
            ([item], []) | ([], [item]) => Some(item.steps.join("; ")),
            _ => None,
        };
        RunError::Incomplete {
            what: what.join(" and "),
            hint: only.unwrap_or_else(|| format!("`{plan}` lists the commands that bring them")),
            code: if self.data.is_empty() { MISSING_WEIGHTS } else { MISSING_DATA },
        }
    }
}

impl Item {
    fn new(names: Vec<String>, steps: Vec<String>) -> Self {
        Self { names, steps, files: Vec::new(), listed_elsewhere: false, estimated: None }
    }

    /// What `san fetch <name>` brings, with the options that it needs, and its manual steps.
    fn fetched(names: Vec<String>, name: &str, options: &str, distribution: &Distribution) -> Self {
        let mut steps = Vec::new();
        if !distribution.sources.is_empty() || distribution.repository.is_some() {
            let terms = if distribution.terms.is_some() { " --accept-licence" } else { "" };
            steps.push(format!("san fetch {name}{terms}{options}"));
        }
        steps.extend(distribution.manual.map(|manual| format!("by hand: {manual}")));
        let listed_elsewhere = distribution.repository.is_some();
        let files = distribution.sources.to_vec();
        Self { names, steps, files, listed_elsewhere, estimated: None }
    }

    /// The size of its download, as text; `None` if nothing is downloaded.
    fn size(&self) -> Option<String> {
        if let Some(bytes) = self.estimated {
            return Some(format!("about {}", HumanBytes(bytes)));
        }
        if self.listed_elsewhere {
            return Some("the Hub lists its size".into());
        }
        let known: u64 = self.files.iter().filter_map(|file| file.size).sum();
        let unknown = self.files.iter().any(|file| file.size.is_none());
        match (known, unknown) {
            (0, false) => None,
            (0, true) => Some("size not published".into()),
            (_, false) => Some(HumanBytes(known).to_string()),
            (_, true) => Some(format!("more than {}", HumanBytes(known))),
        }
    }
}

fn names(items: &[Item]) -> impl Iterator<Item = &str> {
    items.iter().flat_map(|item| &item.names).map(String::as_str)
}

/// The models that a name stands for.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('+')
}

/// A file's name without folder and ending.
fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The published number of training examples in a file.
fn published_examples(file: &str) -> Option<usize> {
    shared_files().ok()?.iter().find(|shared| shared.name == file)?.examples
}

/// The published size of a set that is missing, with its name; `None` if none is published.
pub(super) fn published_size(source: &DataSource, set: &str) -> Option<(String, SplitCounts)> {
    let entry = dataset(set).ok()?;
    let asked = entry.text.map(|text| text.test_rows);
    let asked = asked.or_else(|| entry.questions.map(|questions| questions.test_questions));
    let size = entry.splits.or_else(|| {
        // Training rows are those of a file that all sets share; a benchmark of questions has none of its own.
        let val = match source {
            DataSource::Rows { source, .. } => source.val_rows,
            _ => 0,
        };
        let rows = match source {
            DataSource::Rows { source, .. } => published_examples(&source.training_file)?,
            _ => 0,
        };
        Some(SplitCounts { train: rows.saturating_sub(val), val, test: asked? })
    })?;
    Some((set.to_owned(), size))
}

fn missing_data(profile: &Profile, root: Option<&Path>) -> Result<Vec<Item>> {
    let (folder, training) = match &profile.data {
        DataSource::Synthetic(_) | DataSource::Folder(_) => return Ok(Vec::new()),
        DataSource::Files(folder) => (folder, Vec::new()),
        DataSource::Rows { folder, source } => {
            let root = root.map(|root| root.join(folder));
            let file = source.training_path(&root.unwrap_or_else(|| Path::new("$SAN_DATA").join(folder)));
            (folder, vec![file])
        }
        DataSource::Questions { folder, source } => {
            let root = root.map_or_else(|| PathBuf::from("$SAN_DATA"), Path::to_path_buf).join(folder);
            (folder, source.mixture.iter().map(|file| root.join(&file.file)).collect())
        }
    };
    let place = root.map_or_else(|| Path::new("$SAN_DATA").join(folder), |root| root.join(folder));
    let entries = profile.sets.iter().map(|name| dataset(name)).collect::<Result<Vec<_>, _>>()?;
    let absent: Vec<_> = entries.iter().copied().filter(|entry| entry.folders(&place).is_empty()).collect();
    let mut items = missing_sets(&entries, absent, &place, Path::new(folder))?;
    for file in training.into_iter().filter(|file| !file.is_file()) {
        let name = stem(&file);
        let shared = shared_files()?.iter().find(|shared| shared.name == name);
        items.push(match shared {
            Some(shared) => {
                let options = options(&place, Path::new(folder), shared.suite.folder().as_path());
                Item::fetched(vec![name.clone()], &name, &options, &shared.distribution())
            }
            None => Item::new(vec![name], vec![format!("no address is known: put it at {}", file.display())]),
        });
    }
    Ok(items)
}

/// One item for all sets if an archive has all of them, and otherwise one for each.
fn missing_sets(
    all: &[&DatasetEntry],
    absent: Vec<&DatasetEntry>,
    place: &Path,
    folder: &Path,
) -> Result<Vec<Item>> {
    let Some(suite) = absent.first().map(|entry| entry.suite) else { return Ok(Vec::new()) };
    let options = options(place, folder, &suite.folder());
    let archive = shared_files()?.iter().find(|shared| shared.suite == suite && shared.replaces_sets);
    let whole = archive.filter(|_| {
        absent.len() > 1 && absent.len() == all.len() && absent.iter().all(|entry| entry.official)
    });
    if let Some(archive) = whole {
        let names = absent.iter().map(|entry| entry.name.clone()).collect();
        return Ok(vec![Item::fetched(names, suite.name(), &options, &archive.distribution())]);
    }
    let item = |entry: &DatasetEntry| {
        Item::fetched(vec![entry.name.clone()], &entry.name, &options, &entry.distribution())
    };
    Ok(absent.into_iter().map(item).collect())
}

/// The options of `san fetch` for a folder that is not the usual one of the suite.
fn options(place: &Path, folder: &Path, usual: &Path) -> String {
    if folder == usual { String::new() } else { format!(" --data {}", place.display()) }
}

/// Bytes of published weights by the number of their parameters: image models in f32, language models in 16 bits.
fn estimated_bytes(name: &str) -> Option<u64> {
    let of_images =
        || registry::find(name).ok().map(|entry| 4 * entry.architecture.model_spec(name).parameters());
    let language = registry::published_language(name);
    let bytes = language.map(|model| 2 * model.model_spec(name).parameters()).or_else(of_images)?;
    u64::try_from(bytes).ok()
}

/// The model, if the name is that of a published or known one whose weights are not in their folder. A path is opened by
/// the plan, and so is a name that nobody knows: both are errors of the experiment.
fn missing_model(name: &str, root: Option<&Path>) -> Option<Item> {
    let published = name.strip_suffix(RANDOM).unwrap_or(name);
    let vision = registry::find(published).ok();
    let bundled =
        registry::bundled_language(published).is_some() || registry::bundled_llava(published).is_some();
    let needs_no_file = match &vision {
        Some(entry) => name.ends_with(RANDOM) || matches!(entry.origin, Origin::Bundled(_)),
        None => bundled || place::is_path(published),
    };
    let known = published_weights(published);
    if needs_no_file || (vision.is_none() && known.is_none()) {
        return None;
    }
    let folder = root.unwrap_or(Path::new("$SAN_WEIGHTS")).join(published);
    if let Some(command) = conversion(&folder) {
        let step = format!("{command}, which makes model.safetensors of its pickle");
        return Some(Item::new(vec![name.to_owned()], vec![step]));
    }
    let is_there =
        if vision.is_some() { folder.join("model.safetensors").is_file() } else { folder.is_dir() };
    if is_there {
        return None;
    }
    let Some(known) = known else {
        let step =
            format!("no address is known: put its weights at {}", folder.join("model.safetensors").display());
        return Some(Item::new(vec![name.to_owned()], vec![step]));
    };
    let mut item = Item::fetched(vec![name.to_owned()], published, "", &known.distribution());
    item.estimated = estimated_bytes(published);
    item.steps.extend(known.note.map(|note| format!("{}: {note}", known.home)));
    item.steps.extend(known.pickled.then(|| converted(&folder)));
    Some(item)
}
