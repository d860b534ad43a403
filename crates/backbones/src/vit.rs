//! Vision Transformer (arXiv 2010.11929) in timm's form: `timm/models/vision_transformer.py`.
//!
//! Key names and configuration fields are timm's. Class token or average pooling (then the last norm
//! is `fc_norm`), LayerScale, fused qkv with or without bias; another image size resamples the
//! position embedding as timm does. SAN's wiring: facts of san.md section 2.

use san_core::attachment::Scope;
use san_core::layout::{Anterior, Anteriors, ChannelMap, Layout, Part, Role, SiteSpec};
use san_core::parameter::Parameter;
use san_core::site::{Norm, Site};
use san_core::trainables::Init;
use san_core::{Error, Weights};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Architecture, Backbone};

/// What becomes of the tokens at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The class token.
    Token,
    /// The mean of the patch tokens.
    Avg,
}

/// Arguments of timm's `VisionTransformer`, by its names.
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
    /// What the head reads.
    #[serde(default = "token")]
    pub global_pool: Pool,
    /// Initial LayerScale; none for no LayerScale.
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
    /// A model with a class token and timm's usual options.
    pub fn new(img_size: i64, patch_size: i64, embed_dim: i64, depth: i64, num_heads: i64) -> Self {
        Self {
            img_size,
            patch_size,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: four(),
            class_token: true,
            global_pool: Pool::Token,
            init_values: None,
            qkv_bias: true,
            norm_eps: epsilon(),
        }
    }

    fn grid(&self) -> i64 {
        self.img_size / self.patch_size
    }

    fn tokens(&self) -> i64 {
        self.grid() * self.grid() + i64::from(self.class_token)
    }

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

    /// The sites of a block with their anteriors, in order.
    fn block_sites(&self, index: i64) -> [SiteSpec; 4] {
        let (dim, mlp) = (self.embed_dim, self.mlp());
        let path = |what: &str| format!("blocks.{index}.{what}");
        let previous = if index == 0 { PATCH_EMBED.into() } else { format!("blocks.{}.mlp.fc2", index - 1) };
        let site = |what: &str, role, inputs, outputs, bias, anteriors| SiteSpec {
            name: path(what),
            role,
            inputs,
            outputs,
            bias,
            parts: Vec::new(),
            anteriors,
        };
        let anterior = |site: String, map| Some(Anterior { site, map });
        let qkv_anteriors = Anteriors {
            authors: anterior(PATCH_EMBED.into(), ChannelMap::Identity),
            full: anterior(previous, ChannelMap::Identity),
        };
        let value = ChannelMap::Slice { start: 2 * dim, length: dim };
        let proj_anteriors = Anteriors { authors: None, full: anterior(path("attn.qkv"), value) };
        let part = |role, index| Part { role, start: index * dim, length: dim };
        let parts = vec![part(Role::Q, 0), part(Role::K, 1), part(Role::V, 2)];
        [
            SiteSpec { parts, ..site("attn.qkv", Role::Qkv, dim, 3 * dim, self.qkv_bias, qkv_anteriors) },
            site("attn.proj", Role::Proj, dim, dim, true, proj_anteriors),
            site("mlp.fc1", Role::Up, dim, mlp, true, Anteriors::always(path("attn.proj"))),
            site("mlp.fc2", Role::Down, mlp, dim, true, Anteriors::always(path("mlp.fc1"))),
        ]
    }
}

const PATCH_EMBED: &str = "patch_embed.proj";

impl Architecture for Config {
    fn layout(&self, name: &str) -> Layout {
        let (dim, patch) = (self.embed_dim, self.patch_size);
        let mut layout = Layout::new(name, "head", dim);
        let small = Init::TruncatedNormal { deviation: 0.02 };
        if self.class_token {
            layout.tensor("cls_token", &[1, 1, dim], Init::Normal { mean: 0.0, deviation: 1e-6 });
        }
        layout.tensor("pos_embed", &[1, self.tokens(), dim], small);
        let embed = SiteSpec {
            name: PATCH_EMBED.into(),
            role: Role::PatchEmbed,
            inputs: 3 * patch * patch,
            outputs: dim,
            bias: true,
            parts: Vec::new(),
            anteriors: Anteriors::default(),
        };
        layout.site(embed, &[dim, 3, patch, patch]);
        for index in 0..self.depth {
            let [qkv, proj, up, down] = self.block_sites(index);
            let scale = |layout: &mut Layout, what: &str| {
                if let Some(value) = self.init_values {
                    let init = Init::Normal { mean: value, deviation: 0.0 };
                    layout.tensor(format!("blocks.{index}.{what}.gamma"), &[dim], init);
                }
            };
            layout.norm(format!("blocks.{index}.norm1"), dim);
            layout.linear(qkv);
            layout.linear(proj);
            scale(&mut layout, "ls1");
            layout.norm(format!("blocks.{index}.norm2"), dim);
            layout.linear(up);
            layout.linear(down);
            scale(&mut layout, "ls2");
        }
        layout.norm(self.last_norm(), dim);
        layout
    }

    fn image_size(&self) -> i64 {
        self.img_size
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

    fn build(&self, scope: &Scope<'_>) -> Result<Box<dyn Backbone>, Error> {
        Ok(Box::new(Vit::new(self, scope)?))
    }

    fn published_config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Config {
    /// `[1, tokens, dim]` of another square grid made into this one's: bicubic with antialiasing, the
    /// class token's row kept (timm's `resample_abs_pos_embed`).
    fn resample_position_embedding(&self, stored: &Tensor) -> Result<Tensor, Error> {
        let prefix = i64::from(self.class_token);
        let [_, tokens, dim] = stored.size()[..] else { return Ok(stored.shallow_clone()) };
        let patches = tokens - prefix;
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let grid = (patches as f64).sqrt().round() as i64;
        if tokens == self.tokens() || grid < 1 || grid * grid != patches {
            return Ok(stored.shallow_clone()); // fits, or the strict check will name it
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
    patch_size: i64,
    pool: Pool,
    patch_embed: Site,
    class_token: Option<Parameter>,
    position_embedding: Parameter,
    blocks: Vec<Block>,
    norm: Norm,
}

impl Vit {
    fn new(config: &Config, scope: &Scope<'_>) -> Result<Self, Error> {
        let dim = config.embed_dim;
        let pixels = 3 * config.patch_size * config.patch_size;
        let class_token = scope.optional("cls_token", config.class_token)?;
        Ok(Self {
            patch_size: config.patch_size,
            pool: config.global_pool,
            patch_embed: scope.site(PATCH_EMBED, [dim, pixels], true)?,
            class_token: class_token.map(|token| token.reshape(&[1, dim])),
            position_embedding: scope.parameter("pos_embed")?.reshape(&[config.tokens(), dim]),
            blocks: (0..config.depth)
                .map(|index| Block::new(config, &scope.at("blocks").at(index)))
                .collect::<Result<_, _>>()?,
            norm: scope.norm(config.last_norm(), config.norm_eps)?,
        })
    }

    /// Images `[batch, 3, size, size]` to tokens `[batch, tokens, dim]`. A convolution whose stride is
    /// its kernel is a linear map of the pixels of each patch.
    fn embed(&self, images: &Tensor) -> Tensor {
        let [batch, channels, size, _] = images.size()[..] else {
            unreachable!("images have four dimensions")
        };
        let (patch, grid) = (self.patch_size, size / self.patch_size);
        let patches = images
            .reshape([batch, channels, grid, patch, grid, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, grid * grid, channels * patch * patch]);
        let mut tokens = self.patch_embed.forward(&patches);
        if let Some(class_token) = &self.class_token {
            let first = class_token.per_sample(batch).expand([batch, 1, -1], false);
            tokens = Tensor::cat(&[first, tokens], 1);
        }
        tokens + self.position_embedding.per_sample(batch)
    }
}

impl Backbone for Vit {
    fn features(&self, images: &Tensor) -> Tensor {
        let tokens = self.blocks.iter().fold(self.embed(images), |tokens, block| block.forward(&tokens));
        match self.pool {
            // The norm is per token: only the token that is read needs it.
            Pool::Token => self.norm.forward(&tokens.select(1, 0)),
            Pool::Avg => {
                let prefix = i64::from(self.class_token.is_some());
                let patches = tokens.narrow(1, prefix, tokens.size()[1] - prefix);
                self.norm.forward(&patches.mean_dim(1, false, None))
            }
        }
    }
}

#[derive(Debug)]
struct Block {
    heads: i64,
    norm1: Norm,
    qkv: Site,
    proj: Site,
    scale1: Option<Parameter>,
    norm2: Norm,
    fc1: Site,
    fc2: Site,
    scale2: Option<Parameter>,
}

impl Block {
    fn new(config: &Config, scope: &Scope<'_>) -> Result<Self, Error> {
        let (dim, mlp) = (config.embed_dim, config.mlp());
        let layer_scale = |name| scope.at(name).optional("gamma", config.init_values.is_some());
        Ok(Self {
            heads: config.num_heads,
            norm1: scope.norm("norm1", config.norm_eps)?,
            qkv: scope.site("attn.qkv", [3 * dim, dim], config.qkv_bias)?,
            proj: scope.site("attn.proj", [dim, dim], true)?,
            scale1: layer_scale("ls1")?,
            norm2: scope.norm("norm2", config.norm_eps)?,
            fc1: scope.site("mlp.fc1", [mlp, dim], true)?,
            fc2: scope.site("mlp.fc2", [dim, mlp], true)?,
            scale2: layer_scale("ls2")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let attended = self.proj.forward(&self.attention(&self.norm1.then(x, &self.qkv)));
        let x = x + layer_scale(attended, self.scale1.as_ref());
        let hidden = self.norm2.then(&x, &self.fc1).gelu("none");
        &x + layer_scale(self.fc2.forward(&hidden), self.scale2.as_ref())
    }

    /// Heads attending, from qkv `[batch, tokens, 3 * dim]` to `[batch, tokens, dim]`.
    fn attention(&self, qkv: &Tensor) -> Tensor {
        let [batch, tokens, width] = qkv.size()[..] else { unreachable!("tokens have three dimensions") };
        let dim = width / 3;
        let parts = qkv.reshape([batch, tokens, 3, self.heads, dim / self.heads]).permute([2, 0, 3, 1, 4]);
        let (q, k, v) = (parts.get(0), parts.get(1), parts.get(2));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false);
        y.transpose(1, 2).reshape([batch, tokens, dim])
    }
}

fn layer_scale(y: Tensor, gamma: Option<&Parameter>) -> Tensor {
    match gamma {
        Some(gamma) => san_core::parameter::scale(&y, &gamma.stacked()),
        None => y,
    }
}
