//! `san methods`: every registered method, what it trains and what it costs.

use anyhow::Result;
use backbones::language::LanguageArchitecture as _;
use backbones::language::llama::llama_7b;
use backbones::registry;
use comfy_table::{Table, presets};
use report::text::thousands;
use san_core::methods::{self, MethodInfo, REGISTRY};
use san_core::spec::trainable::TrainableSpec;
use san_core::{Error, ModelSpec};
use serde::Serialize;
use serde_json::{Map, Value};

use super::output;

/// The backbones for which parameters are counted, as named in the table's header.
const COUNTED_ON: [&str; 4] = ["ViT-B/16", "Swin-B", "ConvNeXt-B", "LLaMA-7B"];

/// Their layouts, in the same order.
fn model_specs() -> Result<[ModelSpec; 4]> {
    let vision = |name| anyhow::Ok(registry::find(name)?.architecture.model_spec(name));
    Ok([
        vision("vit_base_patch16_224.augreg_in21k")?,
        vision("swin_base_patch4_window7_224.ms_in22k")?,
        vision("convnext_base.fb_in22k")?,
        llama_7b().model_spec("LLaMA-7B"),
    ])
}

/// Options of `san methods`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  san methods\n  san methods --markdown > METHODS.md\n  san methods --json"
)]
pub(crate) struct Arguments {
    /// Print the document METHODS.md instead.
    #[arg(long)]
    markdown: bool,
    /// Print a JSON array instead.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
}

/// The documentation of a method.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    label: String,
    summary: &'static str,
    /// Trained parameters on each backbone, head excluded, or why the method does not fit.
    trained: Vec<Result<i64, String>>,
    /// Why it cannot be merged; `None` if it can.
    unmergeable: Option<&'static str>,
    inference_cost: &'static str,
    source: &'static str,
    options: Value,
}

pub(crate) fn methods(arguments: &Arguments) -> Result<()> {
    let model_specs = model_specs()?;
    let rows = REGISTRY.iter().map(|entry| row(entry, &model_specs)).collect::<Result<Vec<_>, Error>>()?;
    if arguments.json {
        output::line(format_args!("{}", serde_json::to_string_pretty(&rows)?))?;
    } else if arguments.markdown {
        output::text(format_args!("{}", document(&rows)))?;
    } else {
        output::line(format_args!("{}", table(&rows)))?;
    }
    Ok(())
}

fn row(entry: &MethodInfo, model_specs: &[ModelSpec]) -> Result<Row, Error> {
    let method = methods::find(entry.name, Map::new())?;
    let count = |model_spec| match method.trainables(model_spec) {
        Ok(specs) => Ok(specs.iter().map(TrainableSpec::count).sum()),
        Err(error) => Err(error.to_string()),
    };
    Ok(Row {
        name: entry.name,
        label: method.label()?,
        summary: entry.summary,
        trained: model_specs.iter().map(count).collect(),
        unmergeable: method.unmergeable(),
        inference_cost: entry.inference_cost,
        source: entry.source,
        options: method.options()?.into(),
    })
}

impl Row {
    fn runs(&self) -> Vec<String> {
        let trained = self.trained.iter().map(|count| match count {
            #[allow(clippy::cast_precision_loss)] // exact up to 2^53
            Ok(count) => thousands(*count as f64),
            Err(_) => "does not fit".into(),
        });
        let mergeable = if self.unmergeable.is_some() { "no" } else { "yes" };
        [self.label.clone(), format!("`{}`", self.name)]
            .into_iter()
            .chain(trained)
            .chain([mergeable.into(), self.inference_cost.into(), self.source.into()])
            .collect()
    }
}

fn headers() -> Vec<&'static str> {
    ["method", "name"]
        .into_iter()
        .chain(COUNTED_ON)
        .chain(["mergeable", "extra cost at inference", "source"])
        .collect()
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headers());
    table.add_rows(rows.iter().map(Row::runs));
    table
}

fn document(rows: &[Row]) -> String {
    let mut text = String::from(
        "# Methods\n\nMade by `san methods --markdown` from the registry (`crates/san-core/src/methods/mod.rs`); a test \
         keeps it so.\nTrained parameters are counted without head, with each method's default options.\n\n",
    );
    let line = |runs: &[String]| format!("| {} |\n", runs.join(" | "));
    text += &line(&headers().iter().map(ToString::to_string).collect::<Vec<_>>());
    text += &format!("|---|---|{}---|---|---|\n", "---:|".repeat(COUNTED_ON.len()));
    rows.iter().for_each(|row| text += &line(&row.runs()));
    text += "\n## What each trains, and its options with their defaults\n\n";
    for row in rows {
        text += &format!("- **{}** (`{}`): {}.", row.label, row.name, row.summary);
        if let Some(reason) = row.unmergeable {
            text += &format!(" It cannot be merged: {reason}.");
        }
        if row.options.as_object().is_some_and(|options| !options.is_empty()) {
            text += &format!(" `{}`", row.options);
        }
        text.push('\n');
    }
    for (index, label) in COUNTED_ON.iter().enumerate() {
        for row in rows {
            if let Err(reason) = &row.trained[index] {
                text += &format!("- {} on {label}: {reason}.\n", row.label);
            }
        }
    }
    text
}
