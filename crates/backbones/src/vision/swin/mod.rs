//! Swin Transformer (arXiv 2103.14030) in timm's form: `timm/models/swin_transformer.py`.
//!
//! Key names and configuration fields are timm's. Attention is within windows, which every other block shifts
//! by half a window; a stage no larger than a window has one window and no shift. SAN's wiring (docs/method.md,
//! section 2): within a block as in ViT; the anterior of a stage's blocks is the patch embedding or the
//! reduction before them, and a reduction uses the previous block's scales tiled four times.

mod config;
mod memory;
mod model;
mod windows;

use san_core::Weights;
use san_core::memory::layers::Layers;
use san_core::memory::tape::Value;
use san_core::nn::builder::ModelBuilder;
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec};

pub use config::Config;

use crate::sizes::{check_epsilon, check_sizes};
use crate::vision::Named;
use crate::vision::swin::config::StageSizes;
use crate::vision::swin::model::Swin;
use crate::vision::timm::TimmConfig;
use crate::workload::Workload;
use crate::{Architecture, Backbone, Error};

impl Architecture for Config {
    fn model_spec(&self, name: &str) -> ModelSpec {
        let mut model_spec = ModelSpec::new(name, "head.fc", self.last_width());
        model_spec.site(self.patch_embed());
        model_spec.norm("patch_embed.norm", self.embed_dim);
        for (stage, &depth) in self.depths.iter().enumerate() {
            let sizes = self.sizes(stage);
            if stage > 0 {
                model_spec.norm(format!("layers.{stage}.downsample.norm"), 2 * sizes.dim);
                model_spec.site(self.reduction(stage));
            }
            for index in 0..depth {
                let path = |what: &str| format!("layers.{stage}.blocks.{index}.{what}");
                let [qkv, proj, up, down] = self.block_sites(stage, index);
                model_spec.norm(path("norm1"), sizes.dim);
                let table = [sizes.positions(), sizes.heads];
                let small = Init::TruncatedNormal { deviation: 0.02 };
                model_spec.tensor(path("attn.relative_position_bias_table"), &table, small);
                model_spec.site(qkv);
                model_spec.site(proj);
                model_spec.branch(path("attn"), BranchKind::Attention, sizes.dim);
                model_spec.norm(path("norm2"), sizes.dim);
                model_spec.site(up);
                model_spec.site(down);
                model_spec.branch(path("mlp"), BranchKind::Mlp, sizes.dim);
            }
        }
        model_spec.norm("norm", self.last_width());
        model_spec
    }

    fn image_size(&self) -> i64 {
        self.img_size
    }

    fn token_count(&self) -> i64 {
        self.sizes(self.depths.len() - 1).side.pow(2)
    }

    #[allow(clippy::cast_precision_loss)]
    fn workload(&self) -> Workload {
        let mut work = Workload::default();
        for (stage, &depth) in self.depths.iter().enumerate() {
            let StageSizes { dim, side, window, .. } = self.sizes(stage);
            let tokens = (side * side) as f64;
            let entry = if stage == 0 { self.patch_embed() } else { self.reduction(stage) };
            work.apply([entry.name.as_str()], tokens);
            for index in 0..depth {
                work.apply(self.block_sites(stage, index).iter().map(|site| site.name.as_str()), tokens);
            }
            // A token attends to those of its window.
            work.attention += 2.0 * tokens * (window * window * dim * depth) as f64;
        }
        work
    }

    fn at_image_size(&self, size: i64) -> Result<Box<dyn Architecture>, Error> {
        let unsupported = |reason| Err(Error::ImageSize { backbone: "this Swin".into(), size, reason });
        let stages = self.depths.len();
        let stride = self.patch_size << (stages - 1);
        if size < stride || size % stride != 0 {
            return unsupported(format!("it must be a multiple of the last stage's stride, {stride} px"));
        }
        let other = Self { img_size: size, ..self.clone() };
        match (0..stages).find(|&stage| other.sizes(stage).window != self.sizes(stage).window) {
            Some(stage) => unsupported(format!("the windows of stage {stage} would have a different size")),
            None => Ok(Box::new(other)),
        }
    }

    /// Buffers that older versions of timm saved.
    fn is_obsolete(&self, name: &str) -> bool {
        ["relative_position_index", "attn_mask"].iter().any(|buffer| name.contains(buffer))
    }

    fn fit(&self, weights: Weights) -> Result<Weights, Error> {
        // In older versions of timm a stage ended with the reduction that now starts the next one: stage 0 had one.
        let is_old = weights.iter().any(|(name, _)| name.starts_with("layers.0.downsample."));
        let name = |name: &str| if is_old { current_name(name) } else { name.to_owned() };
        Ok(Weights::new(weights.iter().map(|(key, tensor)| (name(key), tensor.shallow_clone())).collect()))
    }

    fn trace_features(&self, layers: &Layers, images: &Value) -> Value {
        self.trace(layers, images)
    }

    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn Backbone>, Error> {
        Ok(Box::new(Swin::new(self, builder)?))
    }

    fn published_config(&self) -> Result<serde_json::Value, Error> {
        Ok(serde_json::to_value(self)?)
    }
}

impl TimmConfig for Config {
    fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("img_size", self.img_size),
            ("patch_size", self.patch_size),
            ("embed_dim", self.embed_dim),
            ("window_size", self.window_size),
        ])?;
        check_epsilon("norm_eps", self.norm_eps)?;
        let stages = self.depths.len();
        if !(1..=8).contains(&stages) || self.num_heads.len() != stages {
            return Err("`depths` and `num_heads` must have one number for each stage".into());
        }
        for (stage, (&depth, &heads)) in self.depths.iter().zip(&self.num_heads).enumerate() {
            check_sizes(&[("depths", depth), ("num_heads", heads)])?;
            if (self.embed_dim << stage) % heads != 0 {
                return Err(format!("`num_heads` does not divide the channels of stage {stage}"));
            }
        }
        Ok(())
    }
}

/// The present name of a tensor in a file for an older version of timm.
fn current_name(old: &str) -> String {
    let reduction = || {
        let (stage, rest) = old.strip_prefix("layers.")?.split_once(".downsample.")?;
        Some(format!("layers.{}.downsample.{rest}", stage.parse::<usize>().ok()?.checked_add(1)?))
    };
    let head = || Some(format!("head.fc.{}", old.strip_prefix("head.")?));
    reduction().or_else(head).unwrap_or_else(|| old.to_owned())
}

/// Published models under timm's names.
pub(super) fn published() -> Vec<Named> {
    let swin = |name, dim, depths: [i64; 4], heads: [i64; 4]| -> Named {
        (name, Box::new(Config::new(224, dim, &depths, &heads, 7)))
    };
    vec![
        swin("swin_tiny_patch4_window7_224.ms_in22k", 96, [2, 2, 6, 2], [3, 6, 12, 24]),
        swin("swin_small_patch4_window7_224.ms_in22k", 96, [2, 2, 18, 2], [3, 6, 12, 24]),
        swin("swin_base_patch4_window7_224.ms_in22k", 128, [2, 2, 18, 2], [4, 8, 16, 32]),
        swin("swin_large_patch4_window7_224.ms_in22k", 192, [2, 2, 18, 2], [6, 12, 24, 48]),
    ]
}
