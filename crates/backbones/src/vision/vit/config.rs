//! The configuration of a ViT, under timm's argument names, and what follows from it: sizes and the sites of a block.

use san_core::spec::model::{Part, Role, SiteSpec};
use san_core::spec::wiring::{Anteriors, ChannelMap};
use serde::{Deserialize, Serialize};

use crate::vision::activation::Activation;

const PATCH_EMBED: &str = "patch_embed.proj";

/// How the final tokens are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The class token.
    Token,
    /// The mean of the patch tokens.
    Avg,
}

/// The MLP of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MlpLayer {
    /// fc2(gelu(fc1(x))).
    #[default]
    Mlp,
    /// fc2(silu(g) * u), where g and u are the halves of fc1(x) (timm's `SwiGLUPacked`).
    SwigluPacked,
}

/// Arguments of timm's `VisionTransformer`, under their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Image height and width, pixels.
    pub img_size: i64,
    /// Patch height and width, pixels.
    pub patch_size: i64,
    /// Channels of a token.
    pub embed_dim: i64,
    /// Number of blocks.
    pub depth: i64,
    /// Attention heads.
    pub num_heads: i64,
    /// Width of the MLP in units of `embed_dim`.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: f64,
    /// Whether there is a class token.
    #[serde(default = "enabled")]
    pub class_token: bool,
    /// Number of register tokens after the class token.
    #[serde(default)]
    pub reg_tokens: i64,
    /// Whether the position embedding excludes class and register tokens.
    #[serde(default)]
    pub no_embed_class: bool,
    /// The activation function of the MLP; SwiGLU has its own.
    #[serde(default)]
    pub act_layer: Activation,
    /// The MLP type.
    #[serde(default)]
    pub mlp_layer: MlpLayer,
    /// Pooling before the head.
    #[serde(default = "default_pool")]
    pub global_pool: Pool,
    /// Whether the last norm comes after pooling (`fc_norm`) and not before (`norm`); if omitted, after average
    /// pooling.
    #[serde(default)]
    pub fc_norm: Option<bool>,
    /// Whether there is a norm before the first block (CLIP); the patch embedding then has no bias.
    #[serde(default)]
    pub pre_norm: bool,
    /// Initial LayerScale; `None` disables LayerScale.
    #[serde(default)]
    pub init_values: Option<f64>,
    /// Whether qkv has a bias.
    #[serde(default = "enabled")]
    pub qkv_bias: bool,
    /// Epsilon of the norms.
    #[serde(default = "default_epsilon")]
    pub norm_eps: f64,
}

fn default_mlp_ratio() -> f64 {
    4.0
}

fn enabled() -> bool {
    true
}

fn default_pool() -> Pool {
    Pool::Token
}

fn default_epsilon() -> f64 {
    1e-6
}

impl Config {
    /// A model with a class token and timm's default options.
    pub fn new(img_size: i64, patch_size: i64, embed_dim: i64, depth: i64, num_heads: i64) -> Self {
        Self {
            img_size,
            patch_size,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: default_mlp_ratio(),
            class_token: true,
            reg_tokens: 0,
            no_embed_class: false,
            act_layer: Activation::Gelu,
            mlp_layer: MlpLayer::Mlp,
            global_pool: Pool::Token,
            fc_norm: None,
            pre_norm: false,
            init_values: None,
            qkv_bias: true,
            norm_eps: default_epsilon(),
        }
    }

    pub(super) fn grid(&self) -> i64 {
        self.img_size / self.patch_size
    }

    /// Number of class and register tokens, which precede the patch tokens.
    pub(super) fn prefix(&self) -> i64 {
        i64::from(self.class_token) + self.reg_tokens
    }

    /// Number of prefix tokens covered by the position embedding.
    pub(super) fn embedded_prefix(&self) -> i64 {
        if self.no_embed_class { 0 } else { self.prefix() }
    }

    /// Rows of the position embedding.
    pub(super) fn positions(&self) -> i64 {
        self.grid() * self.grid() + self.embedded_prefix()
    }

    /// Outputs of an MLP's first projection.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    pub(super) fn mlp(&self) -> i64 {
        (self.embed_dim as f64 * self.mlp_ratio) as i64
    }

    pub(super) fn normalises_pooled(&self) -> bool {
        self.fc_norm.unwrap_or(self.global_pool == Pool::Avg)
    }

    pub(super) fn last_norm(&self) -> &'static str {
        if self.normalises_pooled() { "fc_norm" } else { "norm" }
    }

    pub(super) fn patch_embed(&self) -> SiteSpec {
        SiteSpec::patches(PATCH_EMBED, Role::PatchEmbed, 3, self.patch_size, self.embed_dim)
            .with_bias(!self.pre_norm)
    }

    /// The sites of a block with their anteriors, in order.
    pub(super) fn block_sites(&self, index: i64) -> [SiteSpec; 4] {
        let (dim, mlp) = (self.embed_dim, self.mlp());
        let path = |what: &str| format!("blocks.{index}.{what}");
        let before = if index == 0 { PATCH_EMBED.into() } else { format!("blocks.{}.mlp.fc2", index - 1) };
        let (qkv, proj, up, down) = (path("attn.qkv"), path("attn.proj"), path("mlp.fc1"), path("mlp.fc2"));
        let up_anteriors = Anteriors::always(&proj);
        let (up, down) = match self.mlp_layer {
            MlpLayer::Mlp => {
                let anteriors = Anteriors::always(&up);
                let down = SiteSpec::linear(down, Role::Down, mlp, dim).with_anteriors(anteriors);
                (SiteSpec::linear(up, Role::Up, dim, mlp), down)
            }
            MlpLayer::SwigluPacked => {
                let half = mlp / 2;
                let anteriors = Anteriors::mapped(&up, ChannelMap::Slice { start: half, length: half });
                let part = |role, start| Part { role, start, length: half };
                let parts = vec![part(Role::Gate, 0), part(Role::Up, half)];
                let down = SiteSpec::linear(down, Role::Down, half, dim).with_anteriors(anteriors);
                (SiteSpec { parts, ..SiteSpec::linear(up, Role::GateUp, dim, mlp) }, down)
            }
        };
        [
            SiteSpec::qkv(&qkv, dim)
                .with_bias(self.qkv_bias)
                .with_anteriors(Anteriors::block_input(PATCH_EMBED, &before)),
            SiteSpec::linear(proj, Role::Proj, dim, dim)
                .with_anteriors(Anteriors::attention_output(&qkv, dim)),
            up.with_anteriors(up_anteriors),
            down,
        ]
    }
}
