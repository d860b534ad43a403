//! `san inspect`: what would be read from a folder of one's own images.

use std::path::PathBuf;

use anyhow::Result;
use comfy_table::{Table, presets};
use data_loaders::{SplitCounts, inspect as read};
use runner::io::files::write_atomically;

use super::output;

/// Options of `san inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  san inspect my/images\n  san inspect my/images --picture ten.png")]
pub(crate) struct Arguments {
    /// The folder: class folders, VTAB-1k or VPT lists, Parquet tables, or a CSV table with the columns path and label.
    folder: PathBuf,
    /// Where to write ten of the images side by side, as a PNG; `<folder>.png` in the current folder if left out.
    #[arg(long)]
    picture: Option<PathBuf>,
}

pub(crate) fn inspect(arguments: &Arguments) -> Result<()> {
    let found = read(&arguments.folder)?;
    let SplitCounts { train, val, test } = found.counts;
    let name = &found.entry.name;
    output::line(format_args!("{name}: {}, {} classes", found.kind, found.entry.classes))?;
    let split = found.origin.label(found.entry.suite);
    output::line(format_args!("{train} / {val} / {test} images for train / val / test ({split})"))?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["label", "class", "train", "val", "test"]);
    for (label, (class, counts)) in found.classes.iter().enumerate() {
        let [train, val, test] = counts.map(|count| count.to_string());
        table.add_row([label.to_string(), class.clone(), train, val, test]);
    }
    output::line(format_args!("{table}"))?;
    let sizes: Vec<String> = found.sizes.iter().map(|(width, height)| format!("{width}x{height}")).collect();
    output::line(format_args!("sizes of {} images: {}", sizes.len(), sizes.join(", ")))?;
    let picture = arguments.picture.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.png")));
    write_atomically(&picture, &found.picture)?;
    output::line(format_args!("these images side by side: {}", picture.display()))
}
