//! `san inspect`: what would be read from one's own images, rows of text, or conversations about images.

use std::path::{Path, PathBuf};

use anyhow::Result;
use comfy_table::{Table, presets};
use data_loaders::text::TextSet;
use data_loaders::vl::{OwnRows, QuestionSuite};
use data_loaders::{FileHashes, Split, SplitCounts, inspect as read, side_by_side};
use runner::io::files::write_atomically;

use super::output;

/// Number of rows, or of images, that are shown.
const SHOWN: usize = 10;
/// Number of letters of a text that are shown.
const LETTERS: usize = 60;

/// Options of `san inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  san inspect my/images\n  san inspect my/images --picture ten.png\n  \
    san inspect reviews.jsonl")]
pub(crate) struct Arguments {
    /// A folder of images: class folders, VTAB-1k or VPT lists, Parquet tables, or a CSV table with the columns path and
    /// label; or a file of rows (instruction, input, output, answer) or of conversations in LLaVA's form, or a folder with
    /// the files train, val and test.
    #[arg(value_name = "PATH")]
    folder: PathBuf,
    /// Where to write ten of the images side by side, as a PNG; `<folder>.png` in the current folder if left out.
    #[arg(long)]
    picture: Option<PathBuf>,
}

pub(crate) fn inspect(arguments: &Arguments) -> Result<()> {
    match OwnRows::of(&arguments.folder) {
        Some(OwnRows::Text) => rows(&arguments.folder),
        Some(OwnRows::Conversations) => conversations(arguments),
        None => images(arguments),
    }
}

fn images(arguments: &Arguments) -> Result<()> {
    let found = read(&arguments.folder)?;
    let name = &found.entry.name;
    output::line(format_args!("{name}: {}, {} classes", found.kind, found.entry.classes))?;
    counts("images", found.counts, found.origin.label(found.entry.suite))?;
    let mut table = table(&["label", "class", "train", "val", "test"]);
    for (label, (class, counts)) in found.classes.iter().enumerate() {
        let [train, val, test] = counts.map(|count| count.to_string());
        table.add_row([label.to_string(), class.clone(), train, val, test]);
    }
    output::line(format_args!("{table}"))?;
    let sizes: Vec<String> = found.sizes.iter().map(|(width, height)| format!("{width}x{height}")).collect();
    output::line(format_args!("sizes of {} images: {}", sizes.len(), sizes.join(", ")))?;
    show(arguments, name, &found.picture)
}

fn rows(path: &Path) -> Result<()> {
    let set = TextSet::open_own(&name(path), path)?;
    let options = set.rows(Split::Test).first().map_or_else(Vec::new, |row| row.options());
    let answers = match options[..] {
        [] => "free answers".to_owned(),
        _ => format!("answers {}", options.join(", ")),
    };
    output::line(format_args!("{}: rows of text, {answers}", set.name()))?;
    counts("rows", set.counts(), split_of(path))?;
    let mut table = table(&["instruction", "input", "output", "answer"]);
    for row in set.rows(Split::Train).iter().take(SHOWN) {
        table.add_row([&row.instruction, &row.input, &row.output, &row.answer].map(|text| short(text)));
    }
    output::line(format_args!("{table}"))
}

fn conversations(arguments: &Arguments) -> Result<()> {
    let path = &arguments.folder;
    let suite = QuestionSuite::open_own(&name(path), path, &FileHashes::default())?;
    let set = &suite.sets()[0];
    output::line(format_args!("{}: conversations about images", set.name()))?;
    counts("single questions", set.counts(), split_of(path))?;
    let further = suite.mixture().len();
    output::line(format_args!("{further} other conversations, which are trained on and not asked"))?;
    let all: Vec<_> = [Split::TrainVal, Split::Test].iter().flat_map(|split| set.questions(*split)).collect();
    let count = all.len().min(SHOWN);
    let shown: Vec<_> = (0..count).map(|index| all[index * all.len() / count]).collect();
    let mut table = table(&["image", "question", "answer"]);
    for question in &shown {
        let answer = question.answer.as_deref().unwrap_or_default();
        table.add_row([&question.image, &question.prompt, answer].map(short));
    }
    output::line(format_args!("{table}"))?;
    let images = shown.iter().map(|one| one.picture.load(set.name())).collect::<Result<Vec<_>, _>>()?;
    show(arguments, set.name(), &side_by_side(&images).map_err(anyhow::Error::msg)?)
}

fn counts(what: &str, SplitCounts { train, val, test }: SplitCounts, split: &str) -> Result<()> {
    output::line(format_args!("{train} / {val} / {test} {what} for train / val / test ({split})"))
}

/// Whose split the parts of a file or folder are.
fn split_of(path: &Path) -> &'static str {
    let is_given =
        |part: &str| ["json", "jsonl"].iter().any(|end| path.join(format!("{part}.{end}")).is_file());
    if is_given("val") && is_given("test") { "own split" } else { "own, drawn by seed" }
}

fn name(path: &Path) -> String {
    path.file_stem().map_or_else(|| "own".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The beginning of a text, in one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

fn show(arguments: &Arguments, name: &str, picture: &[u8]) -> Result<()> {
    let path = arguments.picture.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.png")));
    write_atomically(&path, picture)?;
    output::line(format_args!("these images side by side: {}", path.display()))
}
