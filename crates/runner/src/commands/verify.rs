//! `san verify`: checks every image of a data set, or of a suite's sets, before anything is trained on it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use data_loaders::{DataError, DatasetEntry, Duplicate, SplitCounts, Verification, verify_watched};
use runner::error::RunError;
use runner::io::files::{create_folder, write_atomically};
use runner::messages::message;
use serde::Serialize;

use super::meter::{Meter, Unit};
use super::output;
use crate::commands::sets::{self, Named};

/// Name of a manifest next to the data.
const MANIFEST: &str = "manifest.txt";

/// Options of `san verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  SAN_DATA=data san verify vtab\n  san verify cub_200_2011 --data /data/fgvc\n  \
    san verify gic_cifar100 --json > verified.json"
)]
pub(crate) struct Arguments {
    /// Name of a set or suite (see `san datasets`).
    name: String,
    /// Folder that contains the folders of the sets; by default `$SAN_DATA/vision/<suite>`.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Print one JSON array instead of text.
    #[arg(long)]
    json: bool,
    /// Folder of the results; manifests are written to its folder `manifests`.
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Write each manifest into the set's own folder instead.
    #[arg(long)]
    manifest_next_to_data: bool,
}

/// The findings for one set, as printed in JSON.
#[derive(Debug, Serialize)]
struct Finding {
    set: String,
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    split_origin: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<SplitCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<SplitCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<PathBuf>,
    faults: Vec<String>,
    duplicates: Vec<Duplicate>,
    duplicates_of_test: usize,
}

pub(crate) fn verify(arguments: &Arguments) -> Result<()> {
    let named = Named::find(&arguments.name)?;
    sets::check_images(&arguments.name, named.suite())?;
    let root = sets::root(arguments.data.as_deref(), named.suite())?;
    let (entries, absent) = present(named, &root)?;
    let mut findings = Vec::new();
    for entry in entries {
        let meter = Meter::new(format!("verify {}", entry.name), Unit::Images, 0);
        let looked = verify_watched(entry, &root, &|done, total| meter.show(done as u64, total as u64));
        drop(meter);
        let finding = match looked {
            Ok(found) => Finding::of(found, arguments, entry)?,
            Err(error) => Finding::unreadable(entry, &error),
        };
        findings.push(finding);
    }
    if arguments.json {
        output::line(format_args!("{}", serde_json::to_string_pretty(&findings)?))?;
    } else if !absent.is_empty() {
        output::line(format_args!("not in {}: {}", root.display(), absent.join(", ")))?;
    }
    let unusable: Vec<String> =
        findings.iter().filter(|found| !found.usable).map(|found| found.set.clone()).collect();
    if unusable.is_empty() { Ok(()) } else { Err(RunError::Unusable { sets: unusable }.into()) }
}

/// The sets that are present, and the names of the benchmark's own sets that are missing. A set that was requested by
/// its own name is always checked.
fn present(named: Named, root: &Path) -> Result<(Vec<&'static DatasetEntry>, Vec<&'static str>)> {
    let (suite, all) = match named {
        Named::Set(entry) => return Ok((vec![entry], Vec::new())),
        Named::Suite(suite, all) => (suite, all),
    };
    let (there, missing): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|entry| !entry.folders(root).is_empty());
    if there.is_empty() {
        return Err(RunError::Missing {
            what: format!("every set of {}", suite.name()),
            reason: format!("{} has no folder for any of them; `san fetch` downloads them", root.display()),
        }
        .into());
    }
    Ok((there, missing.iter().filter(|entry| entry.official).map(|entry| entry.name.as_str()).collect()))
}

impl Finding {
    /// Prints the findings and writes the manifest.
    fn of(found: Verification, arguments: &Arguments, entry: &DatasetEntry) -> Result<Self> {
        let path = if arguments.manifest_next_to_data {
            found.folder.join(MANIFEST)
        } else {
            let folder = arguments.results.join("manifests").join(entry.suite.name());
            create_folder(&folder)?;
            folder.join(format!("{}.txt", entry.name))
        };
        write_atomically(&path, found.manifest.as_bytes())?;
        if !arguments.json {
            output::line(format_args!("{found}"))?;
            output::line(format_args!("  manifest: {}", path.display()))?;
        }
        Ok(Self {
            usable: found.is_sound(),
            split_origin: Some(found.origin_label),
            counts: Some(found.counts),
            published: found.published,
            faults: found.faults.iter().map(ToString::to_string).collect(),
            duplicates_of_test: found.leaks().count(),
            duplicates: found.duplicates,
            checksum: Some(found.checksum),
            manifest: Some(path),
            set: found.set,
        })
    }

    /// A set whose lists cannot be used; reported immediately, so that a suite's other sets are still checked.
    fn unreadable(entry: &DatasetEntry, error: &DataError) -> Self {
        message(format_args!("san: {error}"));
        Self {
            set: entry.name.clone(),
            usable: false,
            split_origin: None,
            counts: None,
            published: entry.splits,
            checksum: None,
            manifest: None,
            faults: vec![error.to_string()],
            duplicates: Vec::new(),
            duplicates_of_test: 0,
        }
    }
}
