//! The forward pass of a decoder, with or without a KV cache.

use std::rc::Rc;

use san_core::nn::branch::Branch;
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::{Parameter, linear};
use san_core::nn::site::{Norm, Site};
use tch::{Kind, Tensor};

use crate::Error;
use crate::language::decoder::config::BlockSites;
use crate::language::decoder::{Decoder, EMBEDDING, OUTPUT};
use crate::language::rope::{Rope, rotate};
use crate::language::{Cache, LanguageModel, Stage, mask, positions};

/// The model.
#[derive(Debug)]
pub(super) struct DecoderModel {
    embedding: Parameter,
    rope: Rope,
    blocks: Vec<Block>,
    norm: Norm,
    /// `None` if the output embedding is tied.
    output: Option<Parameter>,
}

impl DecoderModel {
    pub(super) fn new(architecture: &Decoder, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let config = &architecture.config;
        let layers = builder.at("model").at("layers");
        Ok(Self {
            embedding: builder.parameter(EMBEDDING)?,
            rope: Rope::new(config.head_width(), config.rope_theta, config.rope_scaling.as_ref()),
            blocks: (0..config.num_hidden_layers)
                .map(|index| Block::new(architecture, index, &layers.at(index)))
                .collect::<Result<_, _>>()?,
            norm: builder.at("model").rms_norm("norm", config.rms_norm_eps)?,
            output: builder.optional(OUTPUT, !config.tie_word_embeddings)?,
        })
    }
}

impl DecoderModel {
    fn attention_context(&self, embedded: &Tensor, valid: Option<&Tensor>, before: i64) -> AttentionContext {
        let (length, device) = (embedded.size()[1], embedded.device());
        let mask = mask(valid, before, length, device);
        AttentionContext {
            rotations: self
                .rope
                .rotations(&positions(mask.as_ref(), before, length, device), embedded.kind()),
            mask,
            causal: before == 0 && valid.is_none(),
        }
    }
}

impl LanguageModel for DecoderModel {
    fn embed(&self, tokens: &Tensor) -> Tensor {
        match self.embedding.single() {
            Some(table) => Tensor::embedding(&table, tokens, -1, false, false),
            None => {
                // Per run: each has its own embedding table.
                let tables = self.embedding.stacked();
                let stack = tables.size()[0];
                let runs = tokens.chunk(stack, 0);
                let rows = runs
                    .iter()
                    .zip(0..)
                    .map(|(tokens, run)| Tensor::embedding(&tables.get(run), tokens, -1, false, false));
                Tensor::cat(&rows.collect::<Vec<_>>(), 0)
            }
        }
    }

    fn hidden(&self, embedded: &Tensor, valid: Option<&Tensor>, mut cache: Option<&mut Cache>) -> Tensor {
        let before = cache.as_ref().map_or(0, |cache| cache.length());
        let context = self.attention_context(embedded, valid, before);
        let blocks = self.blocks.iter().enumerate();
        let x = blocks.fold(embedded.shallow_clone(), |x, (layer, block)| {
            let cache = cache.as_deref_mut().map(|cache| (layer, cache));
            block.forward(&x, &context, cache)
        });
        if let Some(cache) = cache {
            cache.advance(embedded.size()[1]);
        }
        self.norm.forward(&x)
    }

    fn stages(&self, embedded: &Tensor, valid: Option<&Tensor>) -> Vec<Stage<'_>> {
        let context = Rc::new(self.attention_context(embedded, valid, 0));
        let blocks = self.blocks.iter().map(|block| {
            let context = context.clone();
            let stage: Stage<'_> = Box::new(move |x: &Tensor| block.forward(x, &context, None));
            stage
        });
        let norm: Stage<'_> = Box::new(|x: &Tensor| self.norm.forward(x));
        blocks.chain(std::iter::once(norm)).collect()
    }

    fn logits(&self, hidden: &Tensor) -> Tensor {
        let logits = linear(hidden, self.output.as_ref().unwrap_or(&self.embedding), None);
        if logits.kind() == Kind::Double { logits } else { logits.to_kind(Kind::Float) }
    }
}

/// Positions and attention mask of a forward pass; the same for every block.
struct AttentionContext {
    rotations: (Tensor, Tensor),
    mask: Option<Tensor>,
    /// Whether the built-in causal mask suffices.
    causal: bool,
}

#[derive(Debug)]
struct Block {
    heads: i64,
    key_heads: i64,
    input_norm: Norm,
    q: Site,
    k: Site,
    v: Site,
    o: Site,
    attention: Branch,
    mlp_norm: Norm,
    gate: Site,
    up: Site,
    down: Site,
    mlp: Branch,
}

impl Block {
    fn new(architecture: &Decoder, index: i64, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let Decoder { config, variant } = architecture;
        let BlockSites { q, k, v, o, gate, up, down } = config.block_sites(index, variant.qkv_bias);
        let blocks = config.num_hidden_layers;
        Ok(Self {
            heads: config.num_attention_heads,
            key_heads: config.key_heads(),
            input_norm: builder.rms_norm("input_layernorm", config.rms_norm_eps)?,
            q: builder.site(&q)?,
            k: builder.site(&k)?,
            v: builder.site(&v)?,
            o: builder.site(&o)?,
            attention: builder.branch("self_attn", index, blocks),
            mlp_norm: builder.rms_norm("post_attention_layernorm", config.rms_norm_eps)?,
            gate: builder.site(&gate)?,
            up: builder.site(&up)?,
            down: builder.site(&down)?,
            mlp: builder.branch("mlp", index, blocks),
        })
    }

    fn forward(&self, x: &Tensor, context: &AttentionContext, cache: Option<(usize, &mut Cache)>) -> Tensor {
        let heads = self.attend(x, context, cache);
        let x = self.attention.add(x, self.o.forward(&heads));
        let [gate, up] = self.mlp_norm.then_each(&x, [&self.gate, &self.up]);
        self.mlp.add(&x, self.down.forward(&(gate.silu() * up)))
    }

    fn attend(&self, x: &Tensor, context: &AttentionContext, cache: Option<(usize, &mut Cache)>) -> Tensor {
        let [batch, tokens, _] = x.size()[..] else { unreachable!("tokens have three dimensions") };
        let split = |x: Tensor, heads: i64| x.reshape([batch, tokens, heads, -1]).transpose(1, 2);
        let [q, k, v] = self.input_norm.then_each(x, [&self.q, &self.k, &self.v]);
        let q = rotate(&split(q, self.heads), &context.rotations);
        let k = rotate(&split(k, self.key_heads), &context.rotations);
        let v = split(v, self.key_heads);
        let (k, v) = match cache {
            Some((layer, cache)) => cache.extend(layer, &k, &v),
            None => (k, v),
        };
        let grouped = self.heads != self.key_heads;
        let mask = context.mask.as_ref();
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, context.causal, None, grouped);
        y.transpose(1, 2).reshape([batch, tokens, -1])
    }
}
