//! Swin Transformer (arXiv 2103.14030) in timm's form: `timm/models/swin_transformer.py`.
//!
//! Key names and configuration fields are timm's. Attention is within windows, which every other block shifts
//! by half a window; a stage no larger than a window has one window and no shift. SAN's wiring (docs/method.md,
//! section 2): within a block as in ViT; the anterior of a stage's blocks is the patch embedding or the
//! reduction before them, and a reduction uses the previous block's scales tiled four times.

use san_core::Weights;
use san_core::nn::branch::Branch;
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::Parameter;
use san_core::nn::site::{Norm, Site};
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec, Role, SiteSpec};
use san_core::spec::wiring::{Anteriors, ChannelMap};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{Architecture, Backbone, Error};

const PATCH_EMBED: &str = "patch_embed.proj";

/// Added to attention logits between tokens that are adjacent only because of the shift (timm's value).
const APART: f64 = -100.0;

/// Arguments of timm's `SwinTransformer`, under their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Image height and width, pixels.
    pub img_size: i64,
    /// Patch height and width, pixels.
    #[serde(default = "four")]
    pub patch_size: i64,
    /// Channels of the first stage; doubled in each further stage.
    pub embed_dim: i64,
    /// Blocks of each stage.
    pub depths: Vec<i64>,
    /// Attention heads of each stage.
    pub num_heads: Vec<i64>,
    /// Height and width of a window, tokens.
    #[serde(default = "seven")]
    pub window_size: i64,
    /// Width of the MLP in units of the stage's channels.
    #[serde(default = "four_times")]
    pub mlp_ratio: f64,
    /// Whether qkv has a bias.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Epsilon of the norms.
    #[serde(default = "epsilon")]
    pub norm_eps: f64,
}

fn four() -> i64 {
    4
}

fn seven() -> i64 {
    7
}

fn four_times() -> f64 {
    4.0
}

fn yes() -> bool {
    true
}

fn epsilon() -> f64 {
    1e-5
}

/// Sizes of one stage.
#[derive(Debug, Clone, Copy)]
struct StageSizes {
    dim: i64,
    heads: i64,
    /// Tokens along one side.
    side: i64,
    window: i64,
}

impl StageSizes {
    /// Rows of the relative position bias table.
    fn positions(self) -> i64 {
        (2 * self.window - 1).pow(2)
    }
}

impl Config {
    /// A model with timm's default options.
    pub fn new(img_size: i64, embed_dim: i64, depths: &[i64], num_heads: &[i64], window_size: i64) -> Self {
        Self {
            img_size,
            patch_size: four(),
            embed_dim,
            depths: depths.to_vec(),
            num_heads: num_heads.to_vec(),
            window_size,
            mlp_ratio: four_times(),
            qkv_bias: true,
            norm_eps: epsilon(),
        }
    }

    fn sizes(&self, stage: usize) -> StageSizes {
        let side = (self.img_size / self.patch_size) >> stage;
        StageSizes {
            dim: self.embed_dim << stage,
            heads: self.num_heads[stage],
            side,
            window: self.window_size.min(side),
        }
    }

    fn patch_embed(&self) -> SiteSpec {
        SiteSpec::patches(PATCH_EMBED, Role::PatchEmbed, 3, self.patch_size, self.embed_dim)
    }

    fn reduction(&self, stage: usize) -> SiteSpec {
        let dim = self.sizes(stage).dim;
        let before = stage - 1;
        let last = format!("layers.{before}.blocks.{}.mlp.fc2", self.depths[before] - 1);
        SiteSpec::linear(reduction(stage), Role::Downsample, 2 * dim, dim)
            .with_bias(false)
            .reading(Anteriors::mapped(last, ChannelMap::Tile { times: 4 }))
    }

    /// The sites of a block with their anteriors, in order.
    fn block_sites(&self, stage: usize, index: i64) -> [SiteSpec; 4] {
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
                .reading(Anteriors::block_input(&entry, &before)),
            SiteSpec::linear(&proj, Role::Proj, dim, dim).reading(Anteriors::attention_output(&qkv, dim)),
            SiteSpec::linear(&up, Role::Up, dim, mlp).reading(Anteriors::always(proj)),
            SiteSpec::linear(path("mlp.fc2"), Role::Down, mlp, dim).reading(Anteriors::always(up)),
        ]
    }

    fn last_width(&self) -> i64 {
        self.embed_dim << (self.depths.len() - 1)
    }
}

fn reduction(stage: usize) -> String {
    format!("layers.{stage}.downsample.reduction")
}

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

    fn at_image_size(&self, size: i64) -> Result<Box<dyn Architecture>, Error> {
        let refused = |reason| Err(Error::ImageSize { backbone: "this Swin".into(), size, reason });
        let stages = self.depths.len();
        let stride = self.patch_size << (stages - 1);
        if size < stride || size % stride != 0 {
            return refused(format!("it must be a multiple of the last stage's stride, {stride} px"));
        }
        let other = Self { img_size: size, ..self.clone() };
        match (0..stages).find(|&stage| other.sizes(stage).window != self.sizes(stage).window) {
            Some(stage) => refused(format!("the windows of stage {stage} would have another size")),
            None => Ok(Box::new(other)),
        }
    }

    fn fit(&self, weights: Weights) -> Result<Weights, Error> {
        Ok(weights)
    }

    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn Backbone>, Error> {
        Ok(Box::new(Swin::new(self, builder)?))
    }

    fn published_config(&self) -> Result<serde_json::Value, Error> {
        Ok(serde_json::to_value(self)?)
    }
}

/// The model.
#[derive(Debug)]
struct Swin {
    patch_embed: Site,
    embed_norm: Norm,
    stages: Vec<Stage>,
    norm: Norm,
}

impl Swin {
    fn new(config: &Config, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let stages = (0..config.depths.len()).map(|stage| Stage::new(config, stage, builder));
        Ok(Self {
            patch_embed: builder.site(&config.patch_embed())?,
            embed_norm: builder.norm("patch_embed.norm", config.norm_eps)?,
            stages: stages.collect::<Result<_, _>>()?,
            norm: builder.norm("norm", config.norm_eps)?,
        })
    }
}

impl Backbone for Swin {
    fn features(&self, images: &Tensor) -> Tensor {
        self.tokens(images).mean_dim(1, false, None)
    }

    fn tokens(&self, images: &Tensor) -> Tensor {
        let tokens = self.embed_norm.forward(&self.patch_embed.forward(&images.permute([0, 2, 3, 1])));
        let last = self.stages.iter().fold(tokens, |x, stage| stage.forward(x));
        self.norm.forward(&last).flatten(1, 2)
    }
}

/// Blocks of one width.
#[derive(Debug)]
struct Stage {
    merging: Option<(Norm, Site)>,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(config: &Config, stage: usize, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let place = builder.at("layers").at(stage);
        let merging = if stage > 0 {
            Some((place.norm("downsample.norm", config.norm_eps)?, builder.site(&config.reduction(stage))?))
        } else {
            None
        };
        let blocks = (0..config.depths[stage])
            .map(|index| Block::new(config, stage, index, &place.at("blocks").at(index)));
        Ok(Self { merging, blocks: blocks.collect::<Result<_, _>>()? })
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let x = match &self.merging {
            Some((norm, reduction)) => norm.then(&merge_patches(&x), reduction),
            None => x,
        };
        self.blocks.iter().fold(x, |x, block| block.forward(&x))
    }
}

/// Maps tokens `[batch, side, side, dim]` to `[batch, side / 2, side / 2, 4 * dim]`, concatenating the four
/// tokens of each 2 x 2 square column by column.
fn merge_patches(x: &Tensor) -> Tensor {
    let [batch, height, width, dim] = x.size()[..] else { unreachable!("a grid of tokens") };
    let squares = x.reshape([batch, height / 2, 2, width / 2, 2, dim]).permute([0, 1, 3, 4, 2, 5]);
    squares.reshape([batch, height / 2, width / 2, 4 * dim])
}

#[derive(Debug)]
struct Block {
    sizes: StageSizes,
    /// Window shift, in tokens.
    shift: i64,
    norm1: Norm,
    qkv: Site,
    position_bias: Parameter,
    /// Table row for each pair of tokens in a window, `[window^4]`.
    position_index: Tensor,
    /// `[windows, 1, window^2, window^2]` if the windows are shifted.
    mask: Option<Tensor>,
    proj: Site,
    attention: Branch,
    norm2: Norm,
    fc1: Site,
    fc2: Site,
    mlp: Branch,
}

impl Block {
    fn new(config: &Config, stage: usize, index: i64, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let sizes = config.sizes(stage);
        let shift = if index % 2 == 0 || sizes.side <= sizes.window { 0 } else { config.window_size / 2 };
        let [qkv, proj, fc1, fc2] = config.block_sites(stage, index);
        let before: i64 = config.depths[..stage].iter().sum();
        let (place, blocks) = (before + index, config.depths.iter().sum());
        let position_bias = builder.parameter("attn.relative_position_bias_table")?;
        let device = position_bias.stacked().device();
        Ok(Self {
            sizes,
            shift,
            norm1: builder.norm("norm1", config.norm_eps)?,
            qkv: builder.site(&qkv)?,
            position_bias,
            position_index: relative_positions(sizes.window).to_device(device),
            mask: (shift > 0).then(|| shift_mask(sizes, shift).to_device(device)),
            proj: builder.site(&proj)?,
            attention: builder.branch("attn", place, blocks),
            norm2: builder.norm("norm2", config.norm_eps)?,
            fc1: builder.site(&fc1)?,
            fc2: builder.site(&fc2)?,
            mlp: builder.branch("mlp", place, blocks),
        })
    }

    /// `x` is `[batch, side, side, dim]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        // Padding tokens are zero after the norm and get the projection's bias, as in timm.
        let normed = self.cut(&self.norm1.forward_for(x, &self.qkv));
        let attended = self.join(&self.attend(&self.qkv.project(&normed)), x.size()[0]);
        let x = self.attention.add(x, self.proj.forward(&attended));
        let hidden = self.norm2.then(&x, &self.fc1).gelu("none");
        self.mlp.add(&x, self.fc2.forward(&hidden))
    }

    /// Tokens to add to each side for whole windows.
    fn padding(&self) -> i64 {
        let StageSizes { side, window, .. } = self.sizes;
        (window - side % window) % window
    }

    /// `[batch, side, side, channels]` to `[batch * windows, window^2, channels]`.
    fn cut(&self, x: &Tensor) -> Tensor {
        let window = self.sizes.window;
        let rolled =
            if self.shift > 0 { x.roll([-self.shift, -self.shift], [1, 2]) } else { x.shallow_clone() };
        let padding = self.padding();
        let whole = if padding > 0 { rolled.constant_pad_nd([0, 0, 0, padding, 0, padding]) } else { rolled };
        windows(&whole, window)
    }

    /// Inverse of `cut`.
    fn join(&self, x: &Tensor, batch: i64) -> Tensor {
        let StageSizes { side, window, .. } = self.sizes;
        let channels = x.size()[2];
        let across = (side + self.padding()) / window;
        let grid = x
            .reshape([batch, across, across, window, window, channels])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([batch, across * window, across * window, channels])
            .narrow(1, 0, side)
            .narrow(2, 0, side);
        if self.shift > 0 { grid.roll([self.shift, self.shift], [1, 2]) } else { grid }
    }

    /// Multi-head attention within windows, from qkv `[batch * windows, tokens, 3 * dim]`.
    fn attend(&self, qkv: &Tensor) -> Tensor {
        let StageSizes { dim, heads, .. } = self.sizes;
        let [count, tokens, _] = qkv.size()[..] else { unreachable!("tokens have three dimensions") };
        let parts = qkv.reshape([count, tokens, 3, heads, dim / heads]).permute([2, 0, 3, 1, 4]);
        #[allow(clippy::cast_precision_loss)]
        let q = parts.get(0) * ((dim / heads) as f64).powf(-0.5);
        let scores = q.matmul(&parts.get(1).transpose(2, 3));
        // One shared table, or one per run: [1 or K, 1, heads, tokens, tokens].
        let table = self.position_bias.stacked();
        let runs = table.size()[0];
        let bias = table.index_select(1, &self.position_index).reshape([runs, tokens, tokens, heads]);
        let bias = bias.permute([0, 3, 1, 2]).unsqueeze(1);
        let scores = (scores.reshape([runs, -1, heads, tokens, tokens]) + bias).reshape(scores.size());
        let scores = match &self.mask {
            Some(mask) => {
                let shape = [-1, mask.size()[0], heads, tokens, tokens];
                (scores.reshape(shape) + mask).reshape(scores.size())
            }
            None => scores,
        };
        let y = scores.softmax(-1, None).matmul(&parts.get(2));
        y.transpose(1, 2).reshape([count, tokens, dim])
    }
}

/// `[batch, height, width, channels]` to `[batch * windows, window^2, channels]`.
fn windows(x: &Tensor, window: i64) -> Tensor {
    let [batch, height, width, channels] = x.size()[..] else { unreachable!("a grid of tokens") };
    x.reshape([batch, height / window, window, width / window, window, channels])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([-1, window * window, channels])
}

/// The row of the relative position bias table for each pair of tokens in a window.
fn relative_positions(window: i64) -> Tensor {
    let coordinates = || (0..window).flat_map(|row| (0..window).map(move |column| (row, column)));
    let row = |(r1, c1): (i64, i64), (r2, c2): (i64, i64)| {
        (r1 - r2 + window - 1) * (2 * window - 1) + c1 - c2 + window - 1
    };
    let rows: Vec<i64> =
        coordinates().flat_map(|one| coordinates().map(move |other| row(one, other))).collect();
    Tensor::from_slice(&rows)
}

/// 0 for token pairs of a shifted window that belong to the same image region, [`APART`] for the others.
fn shift_mask(sizes: StageSizes, shift: i64) -> Tensor {
    let StageSizes { side, window, .. } = sizes;
    let whole = (side + window - 1) / window * window;
    let band = |place: i64| i64::from(place >= whole - window) + i64::from(place >= whole - shift);
    let regions: Vec<i64> =
        (0..whole).flat_map(|row| (0..whole).map(move |column| 3 * band(row) + band(column))).collect();
    let regions = windows(&Tensor::from_slice(&regions).reshape([1, whole, whole, 1]), window).squeeze_dim(2);
    let differ = regions.unsqueeze(1).ne_tensor(&regions.unsqueeze(2));
    let zeros = Tensor::zeros(differ.size(), (Kind::Float, Device::Cpu));
    zeros.masked_fill(&differ, APART).unsqueeze(1)
}
