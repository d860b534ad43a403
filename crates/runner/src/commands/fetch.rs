//! `san fetch`: sets from their official addresses, a mirror or a local archive, into the folders that `san run` reads.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use comfy_table::{Table, presets};
use data_loaders::{
    DatasetEntry, FetchError, FetchEvent, FetchRequest, Fetched, Mirror, Patience, PlannedFile, Step,
    fetch as load, planned_files, remove_downloads,
};
use indicatif::HumanBytes;
use runner::error::RunError;
use runner::signals::{RUNNER_DEADLINE, StopFlag};

use super::sets::{self, Named};
use crate::meter::{Meter, Unit};
use crate::output;

/// Options of `san fetch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  SAN_DATA=data san fetch fgvc --dry-run\n  san fetch oxford_flowers --data /data/fgvc\n  \
    san fetch stanford_cars --accept-licence --from /archives/cars"
)]
pub(crate) struct Arguments {
    /// Name of a set or of a suite (`san datasets` prints them).
    name: String,
    /// The folder that holds the folders of the sets; `$SAN_DATA/vision/<suite>` otherwise (`$SAN_DATA/<suite>` for commonsense and vl).
    #[arg(long)]
    data: Option<PathBuf>,
    /// A mirror's address, or a folder or an archive on this machine, instead of the official addresses.
    #[arg(long, value_name = "URL|PATH")]
    from: Option<String>,
    /// Accept the terms of the sets, which are printed.
    #[arg(long)]
    accept_licence: bool,
    /// Print files, sizes and terms; load nothing.
    #[arg(long)]
    dry_run: bool,
    /// Keep the archives, in the folder `downloads` beside the sets.
    #[arg(long)]
    keep: bool,
}

/// Where everything lies.
struct Places<'a> {
    arguments: &'a Arguments,
    root: PathBuf,
    downloads: PathBuf,
    mirror: Option<Mirror>,
}

impl Places<'_> {
    fn request<'a>(&'a self, entry: &'a DatasetEntry) -> FetchRequest<'a> {
        FetchRequest {
            entry,
            root: &self.root,
            downloads: &self.downloads,
            mirror: self.mirror.as_ref(),
            terms_accepted: self.arguments.accept_licence,
            patience: Patience::default(),
            limits: None,
        }
    }
}

pub(crate) fn fetch(arguments: &Arguments) -> Result<()> {
    let named = Named::find(&arguments.name)?;
    let root = sets::root(arguments.data.as_deref(), named.suite())?;
    let downloads = root.join("downloads");
    let mirror = arguments.from.as_deref().map(Mirror::parse).transpose()?;
    let places = Places { arguments, root, downloads, mirror };
    let entries = announce(named, &places)?;
    if arguments.dry_run {
        return Ok(());
    }
    if let Some(error) = entries.iter().find_map(|entry| unaccepted(entry, arguments)) {
        return Err(error.into());
    }
    let stop = StopFlag::install(RUNNER_DEADLINE)?;
    let mut failed = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let request = places.request(entry);
        match load(&request, &mut watcher(entry, &stop)) {
            Ok(fetched) => tell(entry, &fetched)?,
            Err(FetchError::Stopped { .. }) => return Err(RunError::Interrupted.into()),
            Err(error) if entries.len() == 1 => return Err(error.into()),
            Err(error) => {
                eprintln!("san: {error}");
                failed.push(entry.name.clone());
                continue;
            }
        }
        // CLEVR, dSprites and Small NORB each serve two sets from one download.
        let later = |source: &_| entries[index + 1..].iter().any(|other| other.sources.contains(source));
        remove_downloads(&request, |source| arguments.keep || later(source));
    }
    // Only where it is empty.
    let _ = std::fs::remove_dir(&places.downloads);
    if failed.is_empty() { Ok(()) } else { Err(RunError::Unfetched { sets: failed }.into()) }
}

/// Prints what will be loaded and under which terms; the sets that can be.
fn announce(named: Named, places: &Places) -> Result<Vec<&'static DatasetEntry>> {
    let (all, alone) = match named {
        Named::Set(entry) => (vec![entry], true),
        Named::Suite(_, all) => (all.into_iter().filter(|entry| entry.official).collect(), false),
    };
    let (mut entries, mut table, mut by_hand) = (Vec::new(), Table::new(), Vec::new());
    table.load_preset(presets::NOTHING).set_header(["set", "file", "bytes", "here", "checked by"]);
    let mut needed = BTreeMap::new();
    for entry in all {
        match planned_files(&places.request(entry)) {
            Ok(files) => {
                output::line(format_args!("{}", notice(entry)))?;
                for file in files {
                    table.add_row(row(entry, &file));
                    needed.insert(file.from.clone(), file);
                }
                entries.push(entry);
            }
            Err(FetchError::ByHand { set, reason }) if !alone => {
                by_hand.push(format!("{set}, by hand: {reason}"))
            }
            Err(error) => return Err(error.into()),
        }
    }
    let left: u64 = needed.values().filter_map(|file| Some(file.size?.saturating_sub(file.held))).sum();
    let unknown = needed.values().filter(|file| file.size.is_none()).count();
    output::line(format_args!("\n{table}\n"))?;
    let unknown =
        if unknown == 0 { String::new() } else { format!(", and {unknown} files of unpublished size") };
    output::line(format_args!("to load: {}{unknown}; into {}", HumanBytes(left), places.root.display()))?;
    for line in by_hand {
        output::line(format_args!("{line}"))?;
    }
    Ok(entries)
}

/// Licence, terms and citation.
fn notice(entry: &DatasetEntry) -> String {
    let mut text = format!("{}: {}; licence: {}", entry.name, entry.citation, entry.licence);
    if let Some(terms) = &entry.terms {
        text += &format!("\n  to be accepted: {terms}");
    }
    if let Some(manual) = &entry.manual {
        text += &format!("\n  by hand: {manual}");
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

fn row(entry: &DatasetEntry, file: &PlannedFile) -> [String; 5] {
    [
        entry.name.clone(),
        file.from.clone(),
        file.size.map_or_else(|| "not published".to_owned(), |size| size.to_string()),
        file.held.to_string(),
        file.checksum.unwrap_or("nothing").to_owned(),
    ]
}

/// The terms of one set keep the others from being loaded, too: better said now than after hours.
fn unaccepted(entry: &DatasetEntry, arguments: &Arguments) -> Option<FetchError> {
    let terms = entry.terms.clone().filter(|_| !arguments.accept_licence)?;
    Some(FetchError::Terms { set: entry.name.clone(), terms })
}

fn tell(entry: &DatasetEntry, fetched: &Fetched) -> Result<()> {
    let said = |path: &Path, what: &str| format!("{}: {what} {}", entry.name, path.display());
    match fetched {
        Fetched::AlreadyThere(path) => {
            output::line(format_args!("{}", said(path, "was fetched before, into")))
        }
        Fetched::New(path) => output::line(format_args!(
            "{}; `san verify {}` looks at every image",
            said(path, "is in"),
            entry.name
        )),
    }
}

/// Shows the news of a fetch, a meter for each step of each file.
fn watcher<'a>(
    entry: &'a DatasetEntry,
    stop: &'a StopFlag,
) -> impl FnMut(&FetchEvent<'_>) -> ControlFlow<()> + 'a {
    let mut shown: Option<(Step, String, Meter)> = None;
    move |event| {
        match event {
            FetchEvent::Progress { step, file, done, total } => {
                if !shown.as_ref().is_some_and(|(other, name, _)| other == step && name == file) {
                    let what = match step {
                        Step::Load => "load",
                        Step::Check => "check",
                        Step::Unpack => "unpack",
                    };
                    let meter = Meter::new(format!("{}: {what} {file}", entry.name), Unit::Bytes, *done);
                    shown = Some((*step, (*file).to_owned(), meter));
                }
                if let Some((_, _, meter)) = &shown {
                    meter.show(*done, total.unwrap_or(0).max(*done));
                }
            }
            FetchEvent::Retry { file, reason, pause } => {
                shown = None;
                eprintln!("{}: {file}: {reason}; again in {:.0} s", entry.name, pause.as_secs_f64());
            }
        }
        if stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
