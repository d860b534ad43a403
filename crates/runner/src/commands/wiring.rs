//! `san wiring`: which scaling vector goes where in a backbone.

use std::path::PathBuf;

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use report::figure::{WiredSite, draw_wiring};
use san_core::spec::model::{ModelSpec, SiteSpec};
use san_core::spec::wiring::{ChannelMap, Wiring};

use super::output;
use runner::messages::message;
use runner::resources::Resources;
use tch::Device;

/// Options of `san wiring`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  san wiring swin_micro\n  \
    san wiring vit_base_patch16_224.augreg_in21k --wiring full --figure results/figures\n  \
    san wiring llama_micro --wiring full")]
pub(crate) struct Arguments {
    /// Name of a model: an image model, a language model, or one of both.
    backbone: String,
    /// The wiring.
    #[arg(long, value_parser = ["authors", "authors_resize", "full"], default_value = "authors")]
    wiring: String,
    /// Also draw it into this folder, as SVG and PNG.
    #[arg(long)]
    figure: Option<PathBuf>,
    /// Print a JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn wiring(arguments: &Arguments) -> Result<()> {
    let name = arguments.backbone.as_str();
    let model_spec = Resources::new(Device::Cpu).models.architecture(name)?.model_spec(name);
    let wiring: Wiring = serde_json::from_value(arguments.wiring.clone().into())?;
    if arguments.json {
        output::line(format_args!("{}", serde_json::to_string_pretty(&rows(&model_spec, wiring))?))?;
    } else {
        output::line(format_args!("{}", table(&model_spec, wiring)))?;
    }
    if let Some(folder) = &arguments.figure {
        let title = format!("{name}, wiring `{}`", arguments.wiring);
        let stem = folder.join(format!("{name}-{}", arguments.wiring));
        for path in draw_wiring(&title, &sites(&model_spec, wiring)?, &stem)? {
            message(format_args!("figure: {}", path.display()));
        }
    }
    Ok(())
}

/// One projection, as printed in JSON.
#[derive(Debug, serde::Serialize)]
struct Row<'a> {
    site: &'a str,
    gamma: i64,
    reads: Option<&'a str>,
    map: Option<String>,
}

fn rows(model_spec: &ModelSpec, wiring: Wiring) -> Vec<Row<'_>> {
    model_spec
        .sites
        .iter()
        .map(|site| {
            let anterior = site.anteriors.under(wiring);
            Row {
                site: &site.name,
                gamma: site.outputs,
                reads: anterior.map(|anterior| anterior.site.as_str()),
                map: anterior.map(|anterior| anterior.map.to_string()),
            }
        })
        .collect()
}

fn table(model_spec: &ModelSpec, wiring: Wiring) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["projection", "its gamma", "its input is scaled by the gamma of", "read"]);
    for row in rows(model_spec, wiring) {
        let read = row.map.unwrap_or_default();
        table.add_row([row.site, &row.gamma.to_string(), row.reads.unwrap_or("-"), &read]);
    }
    table
}

/// The same for the figure: a block is the path before `attn`, `mlp` or the last component.
fn sites(model_spec: &ModelSpec, wiring: Wiring) -> Result<Vec<WiredSite>> {
    let place = |name: &str| model_spec.sites.iter().position(|site| site.name == name);
    let wired = |site: &SiteSpec| {
        let (block, name) = split(&site.name);
        let reads = match site.anteriors.under(wiring) {
            None => None,
            Some(anterior) => match place(&anterior.site) {
                Some(source) => {
                    Some((source, (anterior.map != ChannelMap::Identity).then(|| anterior.map.to_string())))
                }
                None => bail!("`{}` reads `{}`, which is not a site", site.name, anterior.site),
            },
        };
        Ok(WiredSite { block: block.into(), name: name.into(), channels: site.outputs, reads })
    };
    model_spec.sites.iter().map(wired).collect()
}

fn split(path: &str) -> (&str, &str) {
    let inner = [".attn.", ".mlp."].iter().find_map(|inner| path.find(inner));
    match inner.or_else(|| path.rfind('.')) {
        Some(place) => (&path[..place], &path[place + 1..]),
        None => ("", path),
    }
}
