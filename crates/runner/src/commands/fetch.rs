//! `san fetch`: data sets and weights from their official addresses, a mirror or a local archive, into the folders that
//! `san run` reads.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use comfy_table::{Table, presets};
use data_loaders::{
    Credential, DatasetEntry, Distribution, FetchError, FetchEvent, FetchRequest, Fetched, Inspect, Mirror,
    Patience, PlannedFile, Step, fetch as load, planned_files, remove_downloads,
};
use indicatif::HumanBytes;
use runner::error::RunError;
use runner::messages::message;
use runner::models::published::{HUB, PublishedWeights, inspect, published_weights};
use runner::train::signals::{RUNNER_DEADLINE, StopFlag};

use super::meter::{Meter, Unit};
use super::output;
use crate::commands::sets::{self, Named};

/// Options of `san fetch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  SAN_DATA=data san fetch fgvc --dry-run\n  san fetch oxford_flowers --data /data/fgvc\n  \
    san fetch stanford_cars --accept-licence --from /archives/cars\n  \
    SAN_WEIGHTS=weights san fetch SmolLM2-135M-Instruct"
)]
pub(crate) struct Arguments {
    /// Name of a set or suite (see `san datasets`), or of a published backbone; if `HF_TOKEN` is set, it is sent to
    /// Hugging Face and nowhere else.
    name: String,
    /// Folder that contains the folders of the sets; by default `$SAN_DATA/vision/<suite>` (`$SAN_DATA/<suite>` for
    /// commonsense and vl), or that of the folders of backbones, `$SAN_WEIGHTS`.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Address of a mirror, or a local folder or archive, instead of the official addresses.
    #[arg(long, value_name = "URL|PATH")]
    from: Option<String>,
    /// Accept the terms of the sets, which are printed.
    #[arg(long)]
    accept_licence: bool,
    /// Print files, sizes and terms; download nothing.
    #[arg(long)]
    dry_run: bool,
    /// Keep the downloaded archives, in the folder `downloads` next to the sets.
    #[arg(long)]
    keep: bool,
}

/// What can be fetched by name: a data set, or the weights of a backbone.
struct Item<'a> {
    distribution: Distribution<'a>,
    /// Licence, terms and citation, for the user.
    notice: String,
    /// What to do after the fetch.
    next: String,
    /// Checks its files before they are moved into place.
    inspect: Option<Inspect>,
}

/// The options, and the folders and addresses that they resolve to.
struct Destinations<'a> {
    arguments: &'a Arguments,
    root: PathBuf,
    downloads: PathBuf,
    mirror: Option<Mirror>,
    credential: Option<Credential>,
}

impl Destinations<'_> {
    fn request<'a>(&'a self, item: &Item<'a>) -> FetchRequest<'a> {
        FetchRequest {
            distribution: item.distribution,
            root: &self.root,
            downloads: &self.downloads,
            mirror: self.mirror.as_ref(),
            terms_accepted: self.arguments.accept_licence,
            patience: Patience::default(),
            limits: None,
            inspect: item.inspect,
            credential: self.credential.as_ref(),
        }
    }
}

pub(crate) fn fetch(arguments: &Arguments) -> Result<()> {
    let published = published_weights(&arguments.name);
    let (all, alone, root) = find(arguments, published.as_ref())?;
    let downloads = root.join("downloads");
    let mirror = arguments.from.as_deref().map(Mirror::parse).transpose()?;
    let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
    let credential = token.map(|token| Credential::new(HUB, token.trim()));
    let places = Destinations { arguments, root, downloads, mirror, credential };
    let items = announce(all, alone, &places)?;
    if arguments.dry_run {
        return Ok(());
    }
    if let Some(error) = items.iter().find_map(|item| unaccepted(item, arguments)) {
        return Err(error.into());
    }
    let stop = StopFlag::install(RUNNER_DEADLINE)?;
    let mut failed = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let request = places.request(item);
        let name = item.distribution.name;
        match load(&request, &mut watcher(name, &stop)) {
            Ok(fetched) => report(item, &fetched)?,
            Err(FetchError::Stopped { .. }) => return Err(RunError::Interrupted.into()),
            Err(error) if items.len() == 1 => return Err(error.into()),
            Err(error) => {
                message(format_args!("san: {error}"));
                failed.push(name.to_owned());
                continue;
            }
        }
        // CLEVR, dSprites and Small NORB each serve two sets from one download.
        let later =
            |source: &_| items[index + 1..].iter().any(|other| other.distribution.sources.contains(source));
        remove_downloads(&request, |source| arguments.keep || later(source));
    }
    // Removed only if it is empty.
    let _ = std::fs::remove_dir(&places.downloads);
    if failed.is_empty() { Ok(()) } else { Err(RunError::Unfetched { sets: failed }.into()) }
}

/// The items that the name stands for, whether it names a single one, and the folder that theirs go into.
fn find<'a>(
    arguments: &Arguments,
    published: Option<&'a PublishedWeights>,
) -> Result<(Vec<Item<'a>>, bool, PathBuf)> {
    let Arguments { name, data, .. } = arguments;
    if let Some(published) = published {
        let root = data.clone().map_or_else(|| sets::from_environment("SAN_WEIGHTS", "weights"), Ok)?;
        let notice = format!("{name}: licence and citation: {}", published.home);
        let next = format!("experiments refer to it as `{name}`");
        let distribution = published.distribution();
        return Ok((vec![Item { distribution, notice, next, inspect: Some(inspect) }], true, root));
    }
    let named = Named::find(name)?;
    let root = sets::root(data.as_deref(), named.suite())?;
    let (entries, alone) = match named {
        Named::Set(entry) => (vec![entry], true),
        Named::Suite(_, all) => (all.into_iter().filter(|entry| entry.official).collect(), false),
    };
    let item = |entry: &'static DatasetEntry| Item {
        distribution: entry.distribution(),
        notice: notice(entry),
        next: format!("`san verify {}` checks every image", entry.name),
        inspect: None,
    };
    Ok((entries.into_iter().map(item).collect(), alone, root))
}

/// Prints what will be downloaded and under which terms; returns the items that can be.
fn announce<'a>(all: Vec<Item<'a>>, alone: bool, places: &'a Destinations) -> Result<Vec<Item<'a>>> {
    let (mut items, mut table, mut by_hand) = (Vec::new(), Table::new(), Vec::new());
    table.load_preset(presets::NOTHING).set_header(["name", "file", "bytes", "here", "checked by"]);
    let mut needed = BTreeMap::new();
    for item in all {
        match planned_files(&places.request(&item)) {
            Ok(files) => {
                output::line(format_args!("{}", item.notice))?;
                for file in files {
                    table.add_row(row(&item, &file));
                    needed.insert(file.from.clone(), file);
                }
                items.push(item);
            }
            Err(FetchError::ByHand { set, reason }) if !alone => {
                by_hand.push(format!("{set} must be downloaded manually: {reason}"))
            }
            Err(error) => return Err(error.into()),
        }
    }
    let left: u64 =
        needed.values().filter_map(|file| Some(file.size?.saturating_sub(file.bytes_on_disk))).sum();
    let unknown = needed.values().filter(|file| file.size.is_none()).count();
    output::line(format_args!("\n{table}\n"))?;
    let unknown = match unknown {
        0 => String::new(),
        1 => ", and a file of unpublished size".to_owned(),
        more => format!(", and {more} files of unpublished size"),
    };
    output::line(format_args!("to download: {}{unknown}; into {}", HumanBytes(left), places.root.display()))?;
    for line in by_hand {
        output::line(format_args!("{line}"))?;
    }
    Ok(items)
}

/// Licence, terms and citation.
fn notice(entry: &DatasetEntry) -> String {
    let mut text = format!("{}: {}; licence: {}", entry.name, entry.citation, entry.licence);
    if let Some(terms) = &entry.terms {
        text += &format!("\n  terms to accept: {terms}");
    }
    if let Some(manual) = &entry.manual {
        text += &format!("\n  manual download: {manual}");
    }
    if entry.original.is_none()
        && entry.text.is_none()
        && entry.questions.is_none()
        && !entry.sources.is_empty()
    {
        text += "\n  no reader for this distribution yet: the files are kept as they are";
    }
    text
}

fn row(item: &Item, file: &PlannedFile) -> [String; 5] {
    [
        item.distribution.name.to_owned(),
        file.from.clone(),
        file.size.map_or_else(|| "not published".to_owned(), |size| size.to_string()),
        file.bytes_on_disk.to_string(),
        file.checksum.unwrap_or("nothing").to_owned(),
    ]
}

/// Terms of one set that were not accepted stop the others too: better to fail now than after hours.
fn unaccepted(item: &Item, arguments: &Arguments) -> Option<FetchError> {
    let terms = item.distribution.terms.filter(|_| !arguments.accept_licence)?;
    Some(FetchError::Terms { set: item.distribution.name.to_owned(), terms: terms.to_owned() })
}

fn report(item: &Item, fetched: &Fetched) -> Result<()> {
    let text = |path: &Path, what: &str| format!("{}: {what} {}", item.distribution.name, path.display());
    match fetched {
        Fetched::AlreadyThere(path) => {
            output::line(format_args!("{}", text(path, "was already fetched into")))
        }
        Fetched::New(path) => output::line(format_args!("{}; {}", text(path, "is in"), item.next)),
    }
}

/// Reports the events of a fetch, with a progress meter for each step of each file.
fn watcher<'a>(name: &'a str, stop: &'a StopFlag) -> impl FnMut(&FetchEvent<'_>) -> ControlFlow<()> + 'a {
    let mut visible: Option<(Step, String, Meter)> = None;
    move |event| {
        match event {
            FetchEvent::Progress { step, file, done, total } => {
                if !visible.as_ref().is_some_and(|(other, name, _)| other == step && name == file) {
                    let what = match step {
                        Step::Load => "load",
                        Step::Check => "check",
                        Step::Unpack => "unpack",
                    };
                    let meter = Meter::new(format!("{name}: {what} {file}"), Unit::Bytes, *done);
                    visible = Some((*step, (*file).to_owned(), meter));
                }
                if let Some((_, _, meter)) = &visible {
                    meter.show(*done, total.unwrap_or(0).max(*done));
                }
            }
            FetchEvent::Retry { file, reason, pause } => {
                visible = None;
                message(format_args!("{name}: {file}: {reason}; retrying in {:.0} s", pause.as_secs_f64()));
            }
        }
        if stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
