//! The forward pass of a Swin on a tape; see `model.rs`.

use san_core::memory::layers::Layers;
use san_core::memory::tape::{Operation, Value};
use san_core::spec::model::{NormSpec, SiteSpec};

use crate::vision::swin::Config;
use crate::vision::swin::config::StageSizes;

impl Config {
    /// The features of images `[K * batch, 3, size, size]`.
    pub(super) fn trace(&self, layers: &Layers, images: &Value) -> Value {
        let batch = images.elements / (3 * self.img_size.pow(2));
        let tokens = layers.forward(&self.patch_embed(), images);
        let tokens = layers.norm(&norm("patch_embed.norm", self.embed_dim), &tokens);
        let last = (0..self.depths.len()).fold(tokens, |x, stage| self.trace_stage(layers, stage, x, batch));
        let last = layers.norm(&norm("norm", self.last_width()), &last);
        layers.copied(&last, batch * self.last_width())
    }

    fn trace_stage(&self, layers: &Layers, stage: usize, x: Value, batch: i64) -> Value {
        let x = if stage > 0 {
            let name = format!("layers.{stage}.downsample.norm");
            let merged = layers.copied(&x, x.elements);
            let width = 2 * self.sizes(stage).dim;
            layers.norm_then(&norm(&name, width), &merged, &[&self.reduction(stage)]).remove(0)
        } else {
            x
        };
        (0..self.depths[stage]).fold(x, |x, index| self.trace_block(layers, (stage, index), &x, batch))
    }

    fn trace_block(&self, layers: &Layers, (stage, index): (usize, i64), x: &Value, batch: i64) -> Value {
        let sizes = self.sizes(stage);
        let [qkv, proj, fc1, fc2] = self.block_sites(stage, index);
        let path = |what: &str| format!("layers.{stage}.blocks.{index}.{what}");
        let is_shifted = index % 2 == 1 && sizes.side > sizes.window;
        let across = (sizes.side + sizes.window - 1) / sizes.window;
        let whole = batch * (across * sizes.window).pow(2) * sizes.dim;
        let windows = batch * across.pow(2);
        let normed =
            self.trace_windows(layers, &norm(&path("norm1"), sizes.dim), x, &qkv, (is_shifted, whole));
        let attended = {
            let table = path("attn.relative_position_bias_table");
            let y = layers.project(&qkv, &normed);
            let attended = trace_attention(layers, &y, sizes, windows, (is_shifted, &table));
            let grid = layers.copied(&attended, whole);
            if is_shifted || whole != x.elements { layers.copied(&grid, x.elements) } else { grid }
        };
        let x = layers.branch(&path("attn"), x, layers.forward(&proj, &attended));
        let hidden = {
            let hidden = layers.norm_then(&norm(&path("norm2"), sizes.dim), &x, &[&fc1]).remove(0);
            layers.function(&hidden)
        };
        layers.branch(&path("mlp"), &x, layers.forward(&fc2, &hidden))
    }

    /// The normalised tokens in windows.
    fn trace_windows(
        &self,
        layers: &Layers,
        norm: &NormSpec,
        x: &Value,
        qkv: &SiteSpec,
        (is_shifted, whole): (bool, i64),
    ) -> Value {
        let normed = layers.norm_for(norm, x, qkv);
        let rolled = if is_shifted { layers.copied(&normed, x.elements) } else { normed };
        let padded = if whole > x.elements { layers.copied(&rolled, whole) } else { rolled };
        layers.copied(&padded, whole)
    }
}

/// Attention within windows: its scores are written, for the position bias and the mask.
fn trace_attention(
    layers: &Layers,
    qkv: &Value,
    sizes: StageSizes,
    windows: i64,
    (is_masked, table): (bool, &str),
) -> Value {
    let StageSizes { heads, window, .. } = sizes;
    let parts = layers.tape.split(qkv, 3);
    let (tokens, width) = (window.pow(2), qkv.width);
    let scores = windows * heads * tokens.pow(2);
    let product = |a: &Value, b: &Value, elements: i64| {
        // Both operands are copied: the heads are not adjacent.
        let (a, b) = (layers.copied(a, a.elements), layers.copied(b, b.elements));
        layers.tape.apply(Operation {
            inputs: &[&a, &b],
            elements,
            width,
            keeps: &[&a, &b],
            ..Operation::default()
        })
    };
    let q = layers.copied(&parts[0], parts[0].elements);
    let raw = product(&q, &parts[1], scores);
    let biased = layers.shifted(&raw, layers.gradient_of(table, sizes.positions() * heads));
    drop(raw);
    let masked = if is_masked { layers.shifted(&biased, 0) } else { biased };
    let shares = layers.tape.apply(Operation {
        inputs: &[&masked],
        elements: scores,
        width,
        keeps_result: true,
        ..Operation::default()
    });
    drop(masked);
    let values = layers.copied(&parts[2], parts[2].elements);
    let y = layers.tape.apply(Operation {
        inputs: &[&shares, &values],
        elements: parts[0].elements,
        width,
        keeps: &[&shares, &values],
        ..Operation::default()
    });
    layers.copied(&y, y.elements)
}

fn norm(name: &str, width: i64) -> NormSpec {
    NormSpec { name: name.into(), width, bias: true }
}
