//! The forward pass of a Swin.

use san_core::nn::branch::Branch;
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::Parameter;
use san_core::nn::site::{Norm, Site};
use tch::Tensor;

use crate::vision::swin::Config;
use crate::vision::swin::config::StageSizes;
use crate::vision::swin::windows::{relative_positions, shift_mask, windows};
use crate::{Backbone, Error};

/// The model.
#[derive(Debug)]
pub(super) struct Swin {
    patch_embed: Site,
    embed_norm: Norm,
    stages: Vec<Stage>,
    norm: Norm,
}

impl Swin {
    pub(super) fn new(config: &Config, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
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
        let builder_of_stage = builder.at("layers").at(stage);
        let merging = if stage > 0 {
            Some((
                builder_of_stage.norm("downsample.norm", config.norm_eps)?,
                builder.site(&config.reduction(stage))?,
            ))
        } else {
            None
        };
        let blocks = (0..config.depths[stage])
            .map(|index| Block::new(config, stage, index, &builder_of_stage.at("blocks").at(index)));
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
        let (block, blocks) = (before + index, config.depths.iter().sum());
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
            attention: builder.branch("attn", block, blocks),
            norm2: builder.norm("norm2", config.norm_eps)?,
            fc1: builder.site(&fc1)?,
            fc2: builder.site(&fc2)?,
            mlp: builder.branch("mlp", block, blocks),
        })
    }

    /// `x` is `[batch, side, side, dim]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        // Padding tokens are zero after the norm and get the projection's bias, as in timm.
        let normed = self.partition_windows(&self.norm1.forward_for(x, &self.qkv));
        let attended = self.merge_windows(&self.attend(&self.qkv.project(&normed)), x.size()[0]);
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
    fn partition_windows(&self, x: &Tensor) -> Tensor {
        let window = self.sizes.window;
        let rolled =
            if self.shift > 0 { x.roll([-self.shift, -self.shift], [1, 2]) } else { x.shallow_clone() };
        let padding = self.padding();
        let whole = if padding > 0 { rolled.constant_pad_nd([0, 0, 0, padding, 0, padding]) } else { rolled };
        windows(&whole, window)
    }

    /// Inverse of `partition_windows`.
    fn merge_windows(&self, x: &Tensor, batch: i64) -> Tensor {
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
        let parts = parts.unbind(0);
        let [q, k, v] = &parts[..] else { unreachable!("queries, keys and values") };
        #[allow(clippy::cast_precision_loss)]
        let q = q * ((dim / heads) as f64).powf(-0.5);
        let scores = q.matmul(&k.transpose(2, 3));
        // One shared table, or one per run: [1 or K, 1, heads, tokens, tokens].
        let table = self.position_bias.stacked();
        let runs = table.size()[0];
        let bias = table.index_select(1, &self.position_index).reshape([runs, tokens, tokens, heads]);
        let bias = bias.permute([0, 3, 1, 2]).unsqueeze(1);
        let scores = (scores.reshape([runs, -1, heads, tokens, tokens]) + bias).reshape(scores.size());
        let scores = match &self.mask {
            Some(mask) => {
                let shape = [-1, mask.size()[0], heads, tokens, tokens];
                (scores.reshape(shape) + mask.to_kind(scores.kind())).reshape(scores.size())
            }
            None => scores,
        };
        let y = scores.softmax(-1, None).matmul(v);
        y.transpose(1, 2).reshape([count, tokens, dim])
    }
}
