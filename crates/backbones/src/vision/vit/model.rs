//! The forward pass of a ViT.

use std::rc::Rc;

use san_core::nn::branch::{Branch, Prompts};
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::{Parameter, scale};
use san_core::nn::site::{Norm, Site};
use tch::Tensor;

use crate::vision::activation::Activation;
use crate::vision::vit::{Config, MlpLayer, Pool};
use crate::{Backbone, Error};

/// The model.
#[derive(Debug)]
pub(super) struct Vit {
    pool: Pool,
    normalises_pooled: bool,
    patch_embed: Site,
    /// Class and register tokens, each `[1, n, dim]` per run.
    prefix: Vec<Parameter>,
    prefix_is_embedded: bool,
    position_embedding: Parameter,
    /// Before the first block.
    pre_norm: Option<Norm>,
    blocks: Vec<Block>,
    norm: Norm,
}

impl Vit {
    pub(super) fn new(config: &Config, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let tokens = [("cls_token", config.class_token), ("reg_token", config.reg_tokens > 0)];
        let prefix: Vec<_> = tokens
            .into_iter()
            .map(|(name, present)| builder.optional(name, present))
            .collect::<Result<_, _>>()?;
        let positions = [config.positions(), config.embed_dim];
        Ok(Self {
            pool: config.global_pool,
            normalises_pooled: config.normalises_pooled(),
            patch_embed: builder.site(&config.patch_embed())?,
            prefix: prefix.into_iter().flatten().collect(),
            prefix_is_embedded: !config.no_embed_class,
            position_embedding: builder.parameter("pos_embed")?.reshape(&positions),
            pre_norm: config.pre_norm.then(|| builder.norm("norm_pre", config.norm_eps)).transpose()?,
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
        let tokens = if self.prefix_is_embedded {
            self.prepend_prefix(patches) + positions
        } else {
            self.prepend_prefix(patches + positions)
        };
        match &self.pre_norm {
            Some(norm) => norm.forward(&tokens),
            None => tokens,
        }
    }

    fn prepend_prefix(&self, patches: Tensor) -> Tensor {
        let [batch, _, dim] = patches.size()[..] else { unreachable!("tokens have three dimensions") };
        let expanded = |token: &Parameter| {
            let token = token.per_sample(batch).flatten(1, 2);
            token.expand([batch, token.size()[1], dim], false)
        };
        let mut parts: Vec<Tensor> = self.prefix.iter().map(expanded).collect();
        parts.push(patches);
        Tensor::cat(&parts, 1)
    }

    /// The tokens after the last block, and the number of tokens that are not prompts. With `first`, only that many first
    /// tokens, since the last block's keys and values alone depend on the others.
    fn last_tokens(&self, images: &Tensor, first: Option<i64>) -> (Tensor, i64) {
        let embedded = self.embed(images);
        let without_prompts = embedded.size()[1];
        let mut tokens = embedded;
        for (index, block) in self.blocks.iter().enumerate() {
            let is_last = index + 1 == self.blocks.len();
            tokens = block.forward(tokens, without_prompts, first.filter(|_| is_last));
        }
        (tokens, without_prompts)
    }

    /// The patch tokens.
    fn patches(&self, (tokens, without_prompts): (Tensor, i64)) -> Tensor {
        let prefix: i64 = self.prefix.iter().map(|token| token.stacked().size()[2]).sum();
        tokens.narrow(1, prefix, without_prompts - prefix)
    }
}

impl Backbone for Vit {
    fn features(&self, images: &Tensor) -> Tensor {
        let mean = |patches: &Tensor| patches.mean_dim(1, false, None);
        match self.pool {
            // The norm is per token, so only the pooled token needs it.
            Pool::Token => self.norm.forward(&self.last_tokens(images, Some(1)).0.select(1, 0)),
            Pool::Avg => {
                let patches = self.patches(self.last_tokens(images, None));
                if self.normalises_pooled {
                    self.norm.forward(&mean(&patches))
                } else {
                    mean(&self.norm.forward(&patches))
                }
            }
        }
    }

    /// After the last norm, regardless of pooling (DINOv2's `x_norm_patchtokens`).
    fn tokens(&self, images: &Tensor) -> Tensor {
        self.norm.forward(&self.patches(self.last_tokens(images, None)))
    }
}

#[derive(Debug)]
struct Block {
    heads: i64,
    activation: Activation,
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
            activation: config.act_layer,
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

    /// `without_prompts` is the number of tokens that are not prompts. With `first`, computes only that many first tokens.
    fn forward(&self, x: Tensor, without_prompts: i64, first: Option<i64>) -> Tensor {
        let x = match &self.prompts {
            Some(prompts) => prompts.join(&x, without_prompts),
            None => x,
        };
        let heads = attend(&self.norm1.then(&x, &self.qkv), self.heads, first);
        let x = first.map_or(x.shallow_clone(), |first| x.narrow(1, 0, first));
        let x = self.attention.add(&x, layer_scale(self.proj.forward(&heads), self.scale1.as_ref()));
        let hidden = self.norm2.then(&x, &self.fc1);
        let hidden = match self.mlp_layer {
            MlpLayer::Mlp => self.activation.apply(&hidden),
            MlpLayer::SwigluPacked => {
                let halves = hidden.chunk(2, -1);
                halves[0].silu() * &halves[1]
            }
        };
        self.mlp.add(&x, layer_scale(self.fc2.forward(&hidden), self.scale2.as_ref()))
    }
}

/// Multi-head attention, from qkv `[batch, tokens, 3 * dim]` to `[batch, tokens, dim]`, or to that many `first` tokens.
fn attend(qkv: &Tensor, heads: i64, first: Option<i64>) -> Tensor {
    let [batch, tokens, width] = qkv.size()[..] else { unreachable!("tokens have three dimensions") };
    let (dim, queries) = (width / 3, first.unwrap_or(tokens));
    if let Some(y) = torch_ops::short_attention(qkv, heads, queries) {
        return y;
    }
    let parts = qkv.reshape([batch, tokens, 3, heads, dim / heads]).permute([2, 0, 3, 1, 4]);
    // Not `get`, whose gradients are three tensors of this size that are mostly zero.
    let parts = parts.unbind(0);
    let [q, k, v] = &parts[..] else { unreachable!("queries, keys and values") };
    let q = if queries == tokens { q.shallow_clone() } else { q.narrow(2, 0, queries) };
    let y = Tensor::scaled_dot_product_attention(&q, k, v, None::<Tensor>, 0.0, false, None, false);
    y.transpose(1, 2).reshape([batch, queries, dim])
}

fn layer_scale(y: Tensor, gamma: Option<&Parameter>) -> Tensor {
    match gamma {
        Some(gamma) => scale(&y, &gamma.stacked()),
        None => y,
    }
}
