//! Vision Transformer (arXiv 2010.11929) in timm's form: `timm/models/vision_transformer.py`.
//!
//! Key names and configuration fields are timm's. Supported: class token or average pooling (the last norm is
//! then `fc_norm`), register tokens, LayerScale, SwiGLU, a norm before the first block, fused qkv with or without bias; for another
//! image size the position embedding is resampled as in timm. SAN's wiring: docs/method.md, section 2.

mod config;
mod memory;
mod model;

use san_core::Weights;
use san_core::memory::layers::Layers;
use san_core::memory::tape::Value;
use san_core::nn::builder::ModelBuilder;
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec};
use tch::Tensor;

pub use config::{Config, MlpLayer, Pool};

use crate::sizes::{check_epsilon, check_sizes};
use crate::vision::Named;
use crate::vision::timm::TimmConfig;
use crate::vision::vit::model::Vit;
use crate::workload::Workload;
use crate::{Architecture, Backbone, Error};

impl Architecture for Config {
    fn model_spec(&self, name: &str) -> ModelSpec {
        let dim = self.embed_dim;
        let mut model_spec = ModelSpec::new(name, "head", dim);
        let small = Init::TruncatedNormal { deviation: 0.02 };
        if self.class_token {
            model_spec.tensor("cls_token", &[1, 1, dim], Init::Normal { mean: 0.0, deviation: 1e-6 });
        }
        if self.reg_tokens > 0 {
            model_spec.tensor(
                "reg_token",
                &[1, self.reg_tokens, dim],
                Init::Normal { mean: 0.0, deviation: 1e-6 },
            );
        }
        model_spec.tensor("pos_embed", &[1, self.positions(), dim], small);
        model_spec.site(self.patch_embed());
        if self.pre_norm {
            model_spec.norm("norm_pre", dim);
        }
        for index in 0..self.depth {
            let [qkv, proj, up, down] = self.block_sites(index);
            let layer_scale = |model_spec: &mut ModelSpec, what: &str| {
                if let Some(value) = self.init_values {
                    let init = Init::Normal { mean: value, deviation: 0.0 };
                    model_spec.tensor(format!("blocks.{index}.{what}.gamma"), &[dim], init);
                }
            };
            let path = |what: &str| format!("blocks.{index}.{what}");
            model_spec.sequence(format!("blocks.{index}"), dim);
            model_spec.norm(path("norm1"), dim);
            model_spec.site(qkv);
            model_spec.site(proj);
            layer_scale(&mut model_spec, "ls1");
            model_spec.branch(path("attn"), BranchKind::Attention, dim);
            model_spec.norm(path("norm2"), dim);
            model_spec.site(up);
            model_spec.site(down);
            layer_scale(&mut model_spec, "ls2");
            model_spec.branch(path("mlp"), BranchKind::Mlp, dim);
        }
        model_spec.norm(self.last_norm(), dim);
        model_spec
    }

    fn image_size(&self) -> i64 {
        self.img_size
    }

    fn token_count(&self) -> i64 {
        self.grid() * self.grid()
    }

    #[allow(clippy::cast_precision_loss)]
    fn workload(&self) -> Workload {
        let (patches, mut work) = (self.token_count() as f64, Workload::default());
        let tokens = patches + self.prefix() as f64;
        work.apply([self.patch_embed().name.as_str()], patches);
        for index in 0..self.depth {
            work.apply(self.block_sites(index).iter().map(|site| site.name.as_str()), tokens);
        }
        let pairs = tokens * tokens * self.depth as f64;
        Workload { attention: 2.0 * pairs * self.embed_dim as f64, ..work }
    }

    fn at_image_size(&self, size: i64) -> Result<Box<dyn Architecture>, Error> {
        if size < self.patch_size || size % self.patch_size != 0 {
            let reason = format!("it must be a multiple of the patch size, {} px", self.patch_size);
            return Err(Error::ImageSize { backbone: "this ViT".into(), size, reason });
        }
        Ok(Box::new(Self { img_size: size, ..self.clone() }))
    }

    /// The layer before the head of the first models pre-trained on ImageNet-21k, which timm removed.
    fn is_obsolete(&self, name: &str) -> bool {
        name.contains("pre_logits")
    }

    fn fit(&self, mut weights: Weights) -> Result<Weights, Error> {
        if let Ok(stored) = weights.get("pos_embed") {
            let resampled = self.resample_position_embedding(stored)?;
            weights.insert("pos_embed", resampled);
        }
        Ok(weights)
    }

    fn trace_features(&self, layers: &Layers, images: &Value) -> Value {
        self.trace(layers, images)
    }

    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn Backbone>, Error> {
        Ok(Box::new(Vit::new(self, builder)?))
    }

    fn published_config(&self) -> Result<serde_json::Value, Error> {
        Ok(serde_json::to_value(self)?)
    }
}

impl TimmConfig for Config {
    fn check(&self) -> Result<(), String> {
        let Self { img_size, patch_size, embed_dim, depth, num_heads, .. } = *self;
        check_sizes(&[
            ("img_size", img_size),
            ("patch_size", patch_size),
            ("embed_dim", embed_dim),
            ("depth", depth),
            ("num_heads", num_heads),
            ("embed_dim * mlp_ratio", self.mlp()),
        ])?;
        check_epsilon("norm_eps", self.norm_eps)?;
        if embed_dim % num_heads != 0 {
            return Err("`num_heads` does not divide `embed_dim`".into());
        }
        if !(0..1000).contains(&self.reg_tokens) {
            return Err(format!("`reg_tokens` is {}", self.reg_tokens));
        }
        if self.global_pool == Pool::Token && !self.class_token {
            return Err("`global_pool` is token, but `class_token` is false".into());
        }
        Ok(())
    }
}

impl Config {
    /// Resamples `[1, tokens, dim]` from another square grid to this one: bicubic with antialiasing; the rows
    /// of class and register tokens are kept (timm's `resample_abs_pos_embed`).
    fn resample_position_embedding(&self, stored: &Tensor) -> Result<Tensor, Error> {
        let prefix = self.embedded_prefix();
        let [_, positions, dim] = stored.size()[..] else { return Ok(stored.shallow_clone()) };
        let patches = positions - prefix;
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let grid = (patches as f64).sqrt().round() as i64;
        if positions == self.positions() || grid < 1 || grid * grid != patches {
            return Ok(stored.shallow_clone()); // it fits, or the strict check will report it
        }
        let image = stored.f_narrow(1, prefix, patches)?.f_reshape([1, grid, grid, dim])?;
        let image = image.f_permute([0, 3, 1, 2])?;
        let size = [self.grid(), self.grid()];
        let image = image.f_internal_upsample_bicubic2d_aa(size, false, None, None)?;
        let patches = image.f_permute([0, 2, 3, 1])?.f_reshape([1, -1, dim])?;
        Ok(Tensor::f_cat(&[stored.f_narrow(1, 0, prefix)?, patches], 1)?)
    }
}

/// Published models under timm's names.
pub(super) fn published() -> Vec<Named> {
    let augreg =
        |name, dim, depth, heads| -> Named { (name, Box::new(Config::new(224, 16, dim, depth, heads))) };
    let patch14 = |size, dim, depth, heads| Config {
        init_values: Some(1e-5),
        ..Config::new(size, 14, dim, depth, heads)
    };
    let dinov2 = |name, dim, depth, heads| -> Named { (name, Box::new(patch14(518, dim, depth, heads))) };
    let registers =
        |dim, depth, heads| Config { reg_tokens: 4, no_embed_class: true, ..patch14(518, dim, depth, heads) };
    let reg4 = |name, dim, depth, heads| -> Named { (name, Box::new(registers(dim, depth, heads))) };
    let giant =
        Config { mlp_ratio: 2.66667 * 2.0, mlp_layer: MlpLayer::SwigluPacked, ..registers(1536, 40, 24) };
    vec![
        augreg("vit_tiny_patch16_224.augreg_in21k", 192, 12, 3),
        augreg("vit_small_patch16_224.augreg_in21k", 384, 12, 6),
        augreg("vit_base_patch16_224.augreg_in21k", 768, 12, 12),
        augreg("vit_large_patch16_224.augreg_in21k", 1024, 24, 16),
        ("vit_small_patch14_imgfocus", Box::new(patch14(224, 384, 12, 6))),
        dinov2("vit_small_patch14_dinov2.lvd142m", 384, 12, 6),
        dinov2("vit_base_patch14_dinov2.lvd142m", 768, 12, 12),
        dinov2("vit_large_patch14_dinov2.lvd142m", 1024, 24, 16),
        reg4("vit_small_patch14_reg4_dinov2.lvd142m", 384, 12, 6),
        reg4("vit_base_patch14_reg4_dinov2.lvd142m", 768, 12, 12),
        reg4("vit_large_patch14_reg4_dinov2.lvd142m", 1024, 24, 16),
        ("vit_giant_patch14_reg4_dinov2.lvd142m", Box::new(giant)),
    ]
}
