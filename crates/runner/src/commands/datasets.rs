//! `san datasets`: the registry of data sets.

use anyhow::Result;
use comfy_table::{Table, presets};
use data_loaders::{SplitOrigin, catalogue, datasets, shared_files};

use super::output;

/// Options of `san datasets`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  san datasets\n  san datasets --markdown > DATASETS.md\n  san datasets --json"
)]
pub(crate) struct Arguments {
    /// Print the document DATASETS.md instead.
    #[arg(long)]
    markdown: bool,
    /// Print a JSON array of the full entries instead.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
}

pub(crate) fn list(arguments: &Arguments) -> Result<()> {
    let entries = datasets()?;
    if arguments.json {
        output::line(format_args!("{}", serde_json::to_string_pretty(entries)?))?;
    } else if arguments.markdown {
        output::text(format_args!("{}", catalogue(entries, shared_files()?)))?;
    } else {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["set", "suite", "classes", "train / val / test", "split", "licence"]);
        for entry in entries {
            let sizes = entry.splits.map_or_else(
                || "own lists".to_owned(),
                |sizes| format!("{} / {} / {}", sizes.train, sizes.val, sizes.test),
            );
            let classes = entry.classes.to_string();
            // A split of one's own is called `... style` in plans and tables.
            let split = entry.splits.map_or("-", |_| SplitOrigin::Published.label(entry.suite));
            table.add_row([&entry.name, entry.suite.name(), &classes, &sizes, split, &entry.licence]);
        }
        output::line(format_args!("{table}\n"))?;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["files that several sets share", "suite", "contents", "licence"]);
        for shared in shared_files()? {
            table.add_row([&shared.name, shared.suite.name(), &shared.title, &shared.licence]);
        }
        output::line(format_args!("{table}"))?;
    }
    Ok(())
}
