//! The configuration of a Swin, under timm's argument names, and what follows from it: the sizes of each stage and the
//! sites of a block.

use san_core::spec::model::{Role, SiteSpec};
use san_core::spec::wiring::{Anteriors, ChannelMap};
use serde::{Deserialize, Serialize};

const PATCH_EMBED: &str = "patch_embed.proj";

/// Arguments of timm's `SwinTransformer`, under their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Image height and width, pixels.
    pub img_size: i64,
    /// Patch height and width, pixels.
    #[serde(default = "default_patch_size")]
    pub patch_size: i64,
    /// Channels of the first stage; doubled in each further stage.
    pub embed_dim: i64,
    /// Blocks of each stage.
    pub depths: Vec<i64>,
    /// Attention heads of each stage.
    pub num_heads: Vec<i64>,
    /// Height and width of a window, tokens.
    #[serde(default = "default_window_size")]
    pub window_size: i64,
    /// Width of the MLP in units of the stage's channels.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: f64,
    /// Whether qkv has a bias.
    #[serde(default = "enabled")]
    pub qkv_bias: bool,
    /// Epsilon of the norms.
    #[serde(default = "default_epsilon")]
    pub norm_eps: f64,
}

fn default_patch_size() -> i64 {
    4
}

fn default_window_size() -> i64 {
    7
}

fn default_mlp_ratio() -> f64 {
    4.0
}

fn enabled() -> bool {
    true
}

fn default_epsilon() -> f64 {
    1e-5
}

/// Sizes of one stage.
#[derive(Debug, Clone, Copy)]
pub(super) struct StageSizes {
    /// Channels.
    pub(super) dim: i64,
    pub(super) heads: i64,
    /// Tokens along one side.
    pub(super) side: i64,
    /// Height and width of a window, tokens.
    pub(super) window: i64,
}

impl StageSizes {
    /// Rows of the relative position bias table.
    pub(super) fn positions(self) -> i64 {
        (2 * self.window - 1).pow(2)
    }
}

impl Config {
    /// A model with timm's default options.
    pub fn new(img_size: i64, embed_dim: i64, depths: &[i64], num_heads: &[i64], window_size: i64) -> Self {
        Self {
            img_size,
            patch_size: default_patch_size(),
            embed_dim,
            depths: depths.to_vec(),
            num_heads: num_heads.to_vec(),
            window_size,
            mlp_ratio: default_mlp_ratio(),
            qkv_bias: true,
            norm_eps: default_epsilon(),
        }
    }

    pub(super) fn sizes(&self, stage: usize) -> StageSizes {
        let side = (self.img_size / self.patch_size) >> stage;
        StageSizes {
            dim: self.embed_dim << stage,
            heads: self.num_heads[stage],
            side,
            window: self.window_size.min(side),
        }
    }

    pub(super) fn patch_embed(&self) -> SiteSpec {
        SiteSpec::patches(PATCH_EMBED, Role::PatchEmbed, 3, self.patch_size, self.embed_dim)
    }

    pub(super) fn reduction(&self, stage: usize) -> SiteSpec {
        let dim = self.sizes(stage).dim;
        let before = stage - 1;
        let last = format!("layers.{before}.blocks.{}.mlp.fc2", self.depths[before] - 1);
        SiteSpec::linear(reduction(stage), Role::Downsample, 2 * dim, dim)
            .with_bias(false)
            .with_anteriors(Anteriors::mapped(last, ChannelMap::Tile { times: 4 }))
    }

    /// The sites of a block with their anteriors, in order.
    pub(super) fn block_sites(&self, stage: usize, index: i64) -> [SiteSpec; 4] {
        let dim = self.sizes(stage).dim;
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let mlp = (dim as f64 * self.mlp_ratio) as i64;
        let path = |what: &str| format!("layers.{stage}.blocks.{index}.{what}");
        let entry = if stage == 0 { PATCH_EMBED.into() } else { reduction(stage) };
        let before =
            if index == 0 { entry.clone() } else { format!("layers.{stage}.blocks.{}.mlp.fc2", index - 1) };
        let (qkv, proj, up) = (path("attn.qkv"), path("attn.proj"), path("mlp.fc1"));
        [
            SiteSpec::qkv(&qkv, dim)
                .with_bias(self.qkv_bias)
                .with_anteriors(Anteriors::block_input(&entry, &before)),
            SiteSpec::linear(&proj, Role::Proj, dim, dim)
                .with_anteriors(Anteriors::attention_output(&qkv, dim)),
            SiteSpec::linear(&up, Role::Up, dim, mlp).with_anteriors(Anteriors::always(proj)),
            SiteSpec::linear(path("mlp.fc2"), Role::Down, mlp, dim).with_anteriors(Anteriors::always(up)),
        ]
    }

    pub(super) fn last_width(&self) -> i64 {
        self.embed_dim << (self.depths.len() - 1)
    }
}

fn reduction(stage: usize) -> String {
    format!("layers.{stage}.downsample.reduction")
}
