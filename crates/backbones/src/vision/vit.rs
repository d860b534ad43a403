//! Vision Transformer (arXiv 2010.11929) in timm's form: `timm/models/vision_transformer.py`.
//!
//! Key names and configuration fields are timm's. Supported: class token or average pooling (the last norm is
//! then `fc_norm`), register tokens, LayerScale, GELU or SwiGLU, fused qkv with or without bias; for another
//! image size the position embedding is resampled as in timm. SAN's wiring: docs/method.md, section 2.

use std::rc::Rc;

use san_core::Weights;
use san_core::nn::branch::{Branch, Prompts};
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::{Parameter, scale};
use san_core::nn::site::{Norm, Site};
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec, Part, Role, SiteSpec};
use san_core::spec::wiring::{Anteriors, ChannelMap};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Architecture, Backbone, Error};

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
    #[serde(default = "four")]
    pub mlp_ratio: f64,
    /// Whether there is a class token.
    #[serde(default = "yes")]
    pub class_token: bool,
    /// Number of register tokens after the class token.
    #[serde(default)]
    pub reg_tokens: i64,
    /// Whether the position embedding excludes class and register tokens.
    #[serde(default)]
    pub no_embed_class: bool,
    /// The MLP type.
    #[serde(default)]
    pub mlp_layer: MlpLayer,
    /// Pooling before the head.
    #[serde(default = "token")]
    pub global_pool: Pool,
    /// Initial LayerScale; `None` disables LayerScale.
    #[serde(default)]
    pub init_values: Option<f64>,
    /// Whether qkv has a bias.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Epsilon of the norms.
    #[serde(default = "epsilon")]
    pub norm_eps: f64,
}

fn four() -> f64 {
    4.0
}

fn yes() -> bool {
    true
}

fn token() -> Pool {
    Pool::Token
}

fn epsilon() -> f64 {
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
            mlp_ratio: four(),
            class_token: true,
            reg_tokens: 0,
            no_embed_class: false,
            mlp_layer: MlpLayer::Mlp,
            global_pool: Pool::Token,
            init_values: None,
            qkv_bias: true,
            norm_eps: epsilon(),
        }
    }

    fn grid(&self) -> i64 {
        self.img_size / self.patch_size
    }

    /// Number of class and register tokens, which precede the patch tokens.
    fn prefix(&self) -> i64 {
        i64::from(self.class_token) + self.reg_tokens
    }

    /// Number of prefix tokens covered by the position embedding.
    fn embedded_prefix(&self) -> i64 {
        if self.no_embed_class { 0 } else { self.prefix() }
    }

    /// Rows of the position embedding.
    fn positions(&self) -> i64 {
        self.grid() * self.grid() + self.embedded_prefix()
    }

    /// Outputs of an MLP's first projection.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    fn mlp(&self) -> i64 {
        (self.embed_dim as f64 * self.mlp_ratio) as i64
    }

    fn last_norm(&self) -> &'static str {
        match self.global_pool {
            Pool::Token => "norm",
            Pool::Avg => "fc_norm",
        }
    }

    fn patch_embed(&self) -> SiteSpec {
        SiteSpec::patches(PATCH_EMBED, Role::PatchEmbed, 3, self.patch_size, self.embed_dim)
    }

    /// The sites of a block with their anteriors, in order.
    fn block_sites(&self, index: i64) -> [SiteSpec; 4] {
        let (dim, mlp) = (self.embed_dim, self.mlp());
        let path = |what: &str| format!("blocks.{index}.{what}");
        let before = if index == 0 { PATCH_EMBED.into() } else { format!("blocks.{}.mlp.fc2", index - 1) };
        let (qkv, proj, up, down) = (path("attn.qkv"), path("attn.proj"), path("mlp.fc1"), path("mlp.fc2"));
        let up_reads = Anteriors::always(&proj);
        let (up, down) = match self.mlp_layer {
            MlpLayer::Mlp => {
                let reads = Anteriors::always(&up);
                let down = SiteSpec::linear(down, Role::Down, mlp, dim).reading(reads);
                (SiteSpec::linear(up, Role::Up, dim, mlp), down)
            }
            MlpLayer::SwigluPacked => {
                let half = mlp / 2;
                let reads = Anteriors::mapped(&up, ChannelMap::Slice { start: half, length: half });
                let part = |role, start| Part { role, start, length: half };
                let parts = vec![part(Role::Gate, 0), part(Role::Up, half)];
                let down = SiteSpec::linear(down, Role::Down, half, dim).reading(reads);
                (SiteSpec { parts, ..SiteSpec::linear(up, Role::GateUp, dim, mlp) }, down)
            }
        };
        [
            SiteSpec::qkv(&qkv, dim)
                .with_bias(self.qkv_bias)
                .reading(Anteriors::block_input(PATCH_EMBED, &before)),
            SiteSpec::linear(proj, Role::Proj, dim, dim).reading(Anteriors::attention_output(&qkv, dim)),
            up.reading(up_reads),
            down,
        ]
    }
}

const PATCH_EMBED: &str = "patch_embed.proj";

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

    fn at_image_size(&self, size: i64) -> Result<Box<dyn Architecture>, Error> {
        if size < self.patch_size || size % self.patch_size != 0 {
            let reason = format!("it must be a multiple of the patch size, {} px", self.patch_size);
            return Err(Error::ImageSize { backbone: "this ViT".into(), size, reason });
        }
        Ok(Box::new(Self { img_size: size, ..self.clone() }))
    }

    fn fit(&self, mut weights: Weights) -> Result<Weights, Error> {
        if let Ok(stored) = weights.get("pos_embed") {
            let resampled = self.resample_position_embedding(stored)?;
            weights.insert("pos_embed", resampled);
        }
        Ok(weights)
    }

    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn Backbone>, Error> {
        Ok(Box::new(Vit::new(self, builder)?))
    }

    fn published_config(&self) -> Result<serde_json::Value, Error> {
        Ok(serde_json::to_value(self)?)
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

/// The model.
#[derive(Debug)]
struct Vit {
    pool: Pool,
    patch_embed: Site,
    /// Class and register tokens, each `[1, n, dim]` per run.
    prefix: Vec<Parameter>,
    prefix_is_embedded: bool,
    position_embedding: Parameter,
    blocks: Vec<Block>,
    norm: Norm,
}

impl Vit {
    fn new(config: &Config, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let tokens = [("cls_token", config.class_token), ("reg_token", config.reg_tokens > 0)];
        let prefix: Vec<_> = tokens
            .into_iter()
            .map(|(name, present)| builder.optional(name, present))
            .collect::<Result<_, _>>()?;
        let positions = [config.positions(), config.embed_dim];
        Ok(Self {
            pool: config.global_pool,
            patch_embed: builder.site(&config.patch_embed())?,
            prefix: prefix.into_iter().flatten().collect(),
            prefix_is_embedded: !config.no_embed_class,
            position_embedding: builder.parameter("pos_embed")?.reshape(&positions),
            blocks: (0..config.depth)
                .map(|index| Block::new(config, index, &builder.at("blocks").at(index)))
                .collect::<Result<_, _>>()?,
            norm: builder.norm(config.last_norm(), config.norm_eps)?,
        })
    }

    /// Maps images `[batch, 3, size, size]` to tokens `[batch, tokens, dim]`.
    fn embed(&self, images: &Tensor) -> Tensor {
        let patches = self.patch_embed.forward(&images.permute([0, 2, 3, 1])).flatten(1, 2);
        let positions = self.position_embedding.per_sample(patches.size()[0]);
        if self.prefix_is_embedded {
            self.behind_prefix(patches) + positions
        } else {
            self.behind_prefix(patches + positions)
        }
    }

    fn behind_prefix(&self, patches: Tensor) -> Tensor {
        let [batch, _, dim] = patches.size()[..] else { unreachable!("tokens have three dimensions") };
        let expanded = |token: &Parameter| {
            let token = token.per_sample(batch).flatten(1, 2);
            token.expand([batch, token.size()[1], dim], false)
        };
        let mut parts: Vec<Tensor> = self.prefix.iter().map(expanded).collect();
        parts.push(patches);
        Tensor::cat(&parts, 1)
    }

    /// All tokens after the last block, and how many of them are not prompts.
    fn last_tokens(&self, images: &Tensor) -> (Tensor, i64) {
        let embedded = self.embed(images);
        let own = embedded.size()[1];
        (self.blocks.iter().fold(embedded, |tokens, block| block.forward(tokens, own)), own)
    }

    /// The patch tokens.
    fn patches(&self, (tokens, own): (Tensor, i64)) -> Tensor {
        let prefix: i64 = self.prefix.iter().map(|token| token.stacked().size()[2]).sum();
        tokens.narrow(1, prefix, own - prefix)
    }
}

impl Backbone for Vit {
    fn features(&self, images: &Tensor) -> Tensor {
        let last = self.last_tokens(images);
        match self.pool {
            // The norm is per token, so only the pooled token needs it.
            Pool::Token => self.norm.forward(&last.0.select(1, 0)),
            Pool::Avg => self.norm.forward(&self.patches(last).mean_dim(1, false, None)),
        }
    }

    /// After the last norm, regardless of pooling (DINOv2's `x_norm_patchtokens`).
    fn tokens(&self, images: &Tensor) -> Tensor {
        self.norm.forward(&self.patches(self.last_tokens(images)))
    }
}

#[derive(Debug)]
struct Block {
    heads: i64,
    mlp_layer: MlpLayer,
    prompts: Option<Rc<Prompts>>,
    norm1: Norm,
    qkv: Site,
    proj: Site,
    scale1: Option<Parameter>,
    attention: Branch,
    norm2: Norm,
    fc1: Site,
    fc2: Site,
    scale2: Option<Parameter>,
    mlp: Branch,
}

impl Block {
    fn new(config: &Config, index: i64, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let [qkv, proj, fc1, fc2] = config.block_sites(index);
        let layer_scale = |name| builder.at(name).optional("gamma", config.init_values.is_some());
        Ok(Self {
            heads: config.num_heads,
            mlp_layer: config.mlp_layer,
            prompts: builder.prompts(),
            norm1: builder.norm("norm1", config.norm_eps)?,
            qkv: builder.site(&qkv)?,
            proj: builder.site(&proj)?,
            scale1: layer_scale("ls1")?,
            attention: builder.branch("attn", index, config.depth),
            norm2: builder.norm("norm2", config.norm_eps)?,
            fc1: builder.site(&fc1)?,
            fc2: builder.site(&fc2)?,
            scale2: layer_scale("ls2")?,
            mlp: builder.branch("mlp", index, config.depth),
        })
    }

    /// `own` is the number of tokens that are not prompts.
    fn forward(&self, x: Tensor, own: i64) -> Tensor {
        let x = match &self.prompts {
            Some(prompts) => prompts.join(&x, own),
            None => x,
        };
        let heads = attend(&self.norm1.then(&x, &self.qkv), self.heads);
        let x = self.attention.add(&x, layer_scale(self.proj.forward(&heads), self.scale1.as_ref()));
        let hidden = self.norm2.then(&x, &self.fc1);
        let hidden = match self.mlp_layer {
            MlpLayer::Mlp => hidden.gelu("none"),
            MlpLayer::SwigluPacked => {
                let halves = hidden.chunk(2, -1);
                halves[0].silu() * &halves[1]
            }
        };
        self.mlp.add(&x, layer_scale(self.fc2.forward(&hidden), self.scale2.as_ref()))
    }
}

/// Multi-head attention, from qkv `[batch, tokens, 3 * dim]` to `[batch, tokens, dim]`.
fn attend(qkv: &Tensor, heads: i64) -> Tensor {
    let [batch, tokens, width] = qkv.size()[..] else { unreachable!("tokens have three dimensions") };
    let dim = width / 3;
    let parts = qkv.reshape([batch, tokens, 3, heads, dim / heads]).permute([2, 0, 3, 1, 4]);
    let (q, k, v) = (parts.get(0), parts.get(1), parts.get(2));
    let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false);
    y.transpose(1, 2).reshape([batch, tokens, dim])
}

fn layer_scale(y: Tensor, gamma: Option<&Parameter>) -> Tensor {
    match gamma {
        Some(gamma) => scale(&y, &gamma.stacked()),
        None => y,
    }
}
