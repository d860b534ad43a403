//! `san fetch`: data sets and weights from their official addresses, a mirror or a local archive, into the folders that
//! `san run` reads.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use comfy_table::{Table, presets};
use data_loaders::{
    Credential, FetchError, FetchEvent, FetchRequest, Fetched, HUB, Mirror, Patience, PlannedFile, Step,
    fetch as load, planned_files, remove_downloads,
};
use indicatif::HumanBytes;
use runner::error::RunError;
use runner::messages::message;
use runner::models::published::{conversion, published_weights};
use runner::train::signals::{RUNNER_DEADLINE, StopFlag};

use super::items::{Found, Item, SetSource};
use super::meter::{Meter, Unit};
use super::output;
use super::space::Space;

/// Options of `san fetch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  SAN_DATA=data san fetch vl --dry-run\n  SAN_DATA=data san fetch vtab --accept-licence\n  \
    san fetch dmlab --source original --data /data/vtab\n  \
    san fetch stanford_cars --accept-licence --from /archives/cars\n  \
    SAN_WEIGHTS=weights HF_TOKEN=... san fetch llama2-7b"
)]
pub(crate) struct Arguments {
    /// Name of a set or suite (see `san datasets`), of files that several sets share (`vtab-1k`,
    /// `llava_v1_5_mix665k`, ...), or of a published backbone. If `HF_TOKEN` is set, it is sent to the Hugging Face Hub
    /// (or to `HF_ENDPOINT`) and nowhere else.
    name: String,
    /// Which copy of the sets: the archive of the whole benchmark that papers use, tables on the Hugging Face Hub, or
    /// the files of the authors. By default the archive for a suite that has one, and otherwise the authors' files.
    #[arg(long, value_enum)]
    source: Option<SetSource>,
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

/// The options, and the folders and addresses that they resolve to.
struct Destinations<'a> {
    arguments: &'a Arguments,
    root: PathBuf,
    downloads: PathBuf,
    mirror: Option<Mirror>,
    hub: String,
    credential: Option<Credential>,
}

impl<'d> Destinations<'d> {
    fn new(arguments: &'d Arguments, root: PathBuf) -> Result<Self> {
        let downloads = root.join("downloads");
        let mirror = arguments.from.as_deref().map(Mirror::parse).transpose()?;
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
        let hub = variable("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
        let credential = variable("HF_TOKEN").map(|token| Credential::new(&hub, token.trim()));
        Ok(Self { arguments, root, downloads, mirror, hub, credential })
    }

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
            hub: &self.hub,
        }
    }
}

pub(crate) fn fetch(arguments: &Arguments) -> Result<()> {
    let published = published_weights(&arguments.name);
    let Found { items, alone, root } =
        Found::by_name(&arguments.name, arguments.source, arguments.data.as_deref(), published.as_ref())?;
    let places = Destinations::new(arguments, root)?;
    let items = announce(items, alone, &places)?;
    let needs = Space::needed(items.iter().map(|item| item.files.as_slice()), arguments.keep);
    if arguments.dry_run {
        return output::line(format_args!("{}", needs.compared_with(&places.root)));
    }
    if let Some(error) = items.iter().find_map(|item| unaccepted(item, arguments)) {
        return Err(error.into());
    }
    needs.check(&arguments.name, &places.root)?;
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
        let later = |source: &_| {
            let others = items[index + 1..].iter().flat_map(|other| &other.files);
            others.map(PlannedFile::source).any(|other| other == source)
        };
        remove_downloads(&request, &item.files, |source| arguments.keep || later(source));
    }
    // Removed only if it is empty.
    let _ = std::fs::remove_dir(&places.downloads);
    if failed.is_empty() { Ok(()) } else { Err(RunError::Unfetched { sets: failed }.into()) }
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
                for file in &files {
                    table.add_row(row(&item, file));
                    needed.insert(file.from.clone(), file.clone());
                }
                items.push(Item { files, ..item });
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

fn row(item: &Item, file: &PlannedFile) -> [String; 5] {
    [
        item.distribution.name.to_owned(),
        file.from.clone(),
        file.size.map_or_else(|| "not published".to_owned(), |size| size.to_string()),
        file.bytes_on_disk.to_string(),
        file.checksum.unwrap_or("first download").to_owned(),
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
        Fetched::New(path) => {
            output::line(format_args!("{}; {}", text(path, "is in"), item.next))?;
            match conversion(path) {
                Some(command) => output::line(format_args!(
                    "its weights are published as pickles, which are not read; convert them once: {command}"
                )),
                None => Ok(()),
            }
        }
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
