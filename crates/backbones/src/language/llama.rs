//! LLaMA (arXiv 2302.13971, 2307.09288, 2407.21783) in Hugging Face's form:
//! `transformers/models/llama/modeling_llama.py`.
//!
//! Key names and configuration fields are Hugging Face's. Supported: RMS norm, rotary embedding, grouped-query
//! attention, SwiGLU, tied or separate output embedding. SAN's wiring is this project's (docs/method.md,
//! section 2): v to o, o to gate and up, up to down, down to the next block's q, k and v. Under the authors'
//! wiring, published for ViT only, the attention output and a block's input have no anterior.

use std::rc::Rc;

use san_core::Error;
use san_core::nn::branch::Branch;
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::{Parameter, is_narrow, linear};
use san_core::nn::site::{Norm, Site};
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec, Role, SiteSpec};
use san_core::spec::wiring::{Anterior, Anteriors, ChannelMap};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::language::rope::{Rope, Scaling, turn};
use crate::language::{Cache, LanguageArchitecture, LanguageModel, Stage, mask, positions};

/// Fields of a published `config.json` that determine the architecture; others are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Channels of a token.
    pub hidden_size: i64,
    /// Channels inside an MLP.
    pub intermediate_size: i64,
    /// Number of blocks.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; defaults to the number of query heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<i64>,
    /// Channels per head; defaults to `hidden_size / num_attention_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<i64>,
    /// Vocabulary size.
    pub vocab_size: i64,
    /// Context length, in tokens.
    #[serde(default = "usual_context")]
    pub max_position_embeddings: i64,
    /// Epsilon of the norms.
    #[serde(default = "usual_epsilon")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "usual_theta")]
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<Scaling>,
    /// Whether the output embedding is tied to the input embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

fn usual_context() -> i64 {
    2048
}

fn usual_epsilon() -> f64 {
    1e-6
}

fn usual_theta() -> f64 {
    1e4
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";

impl Config {
    /// A model with as many key heads as query heads and a separate output embedding.
    pub fn new(hidden_size: i64, intermediate_size: i64, layers: i64, heads: i64, vocab_size: i64) -> Self {
        Self {
            hidden_size,
            intermediate_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: None,
            head_dim: None,
            vocab_size,
            max_position_embeddings: usual_context(),
            rms_norm_eps: usual_epsilon(),
            rope_theta: usual_theta(),
            rope_scaling: None,
            tie_word_embeddings: false,
        }
    }

    /// LLaMA-7B (arXiv 2302.13971, table 2).
    pub fn llama_7b() -> Self {
        Self::new(4096, 11_008, 32, 32, 32_000)
    }

    fn key_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Channels per head.
    pub fn head_width(&self) -> i64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// The sites of a block with their anteriors, in order.
    fn block_sites(&self, index: i64) -> BlockSites {
        let (dim, mlp, head) = (self.hidden_size, self.intermediate_size, self.head_width());
        let (queries, keys) = (self.num_attention_heads * head, self.key_heads() * head);
        let path = |what: &str| format!("model.layers.{index}.{what}");
        let site = |what: &str, role, inputs, outputs| {
            SiteSpec::linear(path(what), role, inputs, outputs).with_bias(false)
        };
        let input = Anteriors {
            full: (index > 0).then(|| Anterior {
                site: format!("model.layers.{}.mlp.down_proj", index - 1),
                map: ChannelMap::Identity,
            }),
            ..Anteriors::default()
        };
        let values = Some(Anterior {
            site: path("self_attn.v_proj"),
            map: match self.num_attention_heads / self.key_heads() {
                1 => ChannelMap::Identity,
                times => ChannelMap::RepeatHeads { head, times },
            },
        });
        let heads = Anteriors { authors: None, resized: values.clone(), full: values };
        let output = || Anteriors::always(path("self_attn.o_proj"));
        BlockSites {
            q: site("self_attn.q_proj", Role::Q, dim, queries).reading(input.clone()),
            k: site("self_attn.k_proj", Role::K, dim, keys).reading(input.clone()),
            v: site("self_attn.v_proj", Role::V, dim, keys).reading(input),
            o: site("self_attn.o_proj", Role::Proj, queries, dim).reading(heads),
            gate: site("mlp.gate_proj", Role::Gate, dim, mlp).reading(output()),
            up: site("mlp.up_proj", Role::Up, dim, mlp).reading(output()),
            down: site("mlp.down_proj", Role::Down, mlp, dim).reading(Anteriors::always(path("mlp.up_proj"))),
        }
    }
}

/// The projections of a block.
struct BlockSites {
    q: SiteSpec,
    k: SiteSpec,
    v: SiteSpec,
    o: SiteSpec,
    gate: SiteSpec,
    up: SiteSpec,
    down: SiteSpec,
}

impl LanguageArchitecture for Config {
    fn model_spec(&self, name: &str) -> ModelSpec {
        let dim = self.hidden_size;
        let mut model_spec = ModelSpec::headless(name);
        let small = Init::Normal { mean: 0.0, deviation: 0.02 };
        model_spec.tensor(EMBEDDING, &[self.vocab_size, dim], small.clone());
        for index in 0..self.num_hidden_layers {
            let path = |what: &str| format!("model.layers.{index}.{what}");
            let BlockSites { q, k, v, o, gate, up, down } = self.block_sites(index);
            model_spec.rms_norm(path("input_layernorm"), dim);
            [q, k, v, o].into_iter().for_each(|site| model_spec.site(site));
            model_spec.branch(path("self_attn"), BranchKind::Attention, dim);
            model_spec.rms_norm(path("post_attention_layernorm"), dim);
            [gate, up, down].into_iter().for_each(|site| model_spec.site(site));
            model_spec.branch(path("mlp"), BranchKind::Mlp, dim);
        }
        model_spec.rms_norm("model.norm", dim);
        if !self.tie_word_embeddings {
            model_spec.tensor(OUTPUT, &[self.vocab_size, dim], small);
        }
        model_spec
    }

    fn vocabulary(&self) -> i64 {
        self.vocab_size
    }

    fn context(&self) -> i64 {
        self.max_position_embeddings
    }

    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn LanguageModel>, Error> {
        Ok(Box::new(Llama::new(self, builder)?))
    }

    fn published_config(&self) -> serde_json::Value {
        let mut config = serde_json::to_value(self).unwrap_or_default();
        config["model_type"] = "llama".into();
        config["architectures"] = serde_json::json!(["LlamaForCausalLM"]);
        config
    }
}

/// The model.
#[derive(Debug)]
struct Llama {
    embedding: Parameter,
    rope: Rope,
    blocks: Vec<Block>,
    norm: Norm,
    /// `None` if the output embedding is tied.
    output: Option<Parameter>,
}

impl Llama {
    fn new(config: &Config, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let layers = builder.at("model").at("layers");
        Ok(Self {
            embedding: builder.parameter(EMBEDDING)?,
            rope: Rope::new(config.head_width(), config.rope_theta, config.rope_scaling.as_ref()),
            blocks: (0..config.num_hidden_layers)
                .map(|index| Block::new(config, index, &layers.at(index)))
                .collect::<Result<_, _>>()?,
            norm: builder.at("model").rms_norm("norm", config.rms_norm_eps)?,
            output: builder.optional(OUTPUT, !config.tie_word_embeddings)?,
        })
    }
}

impl Llama {
    fn place(&self, embedded: &Tensor, valid: Option<&Tensor>, before: i64) -> Place {
        let (length, device) = (embedded.size()[1], embedded.device());
        let mask = mask(valid, before, length, device);
        Place {
            turns: self.rope.turns(&positions(mask.as_ref(), before, length, device), embedded.kind()),
            mask,
            causal: before == 0 && valid.is_none(),
        }
    }
}

/// Upcasts half precision to f32: activations between products are never narrower.
fn widened(x: &Tensor) -> Tensor {
    if is_narrow(x.kind()) { x.to_kind(Kind::Float) } else { x.shallow_clone() }
}

impl LanguageModel for Llama {
    fn embed(&self, tokens: &Tensor) -> Tensor {
        match self.embedding.single() {
            Some(table) => widened(&Tensor::embedding(&table, tokens, -1, false, false)),
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
        let place = self.place(embedded, valid, before);
        let blocks = self.blocks.iter().enumerate();
        let x = blocks.fold(embedded.shallow_clone(), |x, (layer, block)| {
            let cache = cache.as_deref_mut().map(|cache| (layer, cache));
            block.forward(&x, &place, cache)
        });
        if let Some(cache) = cache {
            cache.advance(embedded.size()[1]);
        }
        self.norm.forward(&x)
    }

    fn stages(&self, embedded: &Tensor, valid: Option<&Tensor>) -> Vec<Stage<'_>> {
        let place = Rc::new(self.place(embedded, valid, 0));
        let blocks = self.blocks.iter().map(|block| {
            let place = place.clone();
            let stage: Stage<'_> = Box::new(move |x: &Tensor| block.forward(x, &place, None));
            stage
        });
        let norm: Stage<'_> = Box::new(|x: &Tensor| self.norm.forward(x));
        blocks.chain(std::iter::once(norm)).collect()
    }

    fn scores(&self, hidden: &Tensor) -> Tensor {
        linear(hidden, self.output.as_ref().unwrap_or(&self.embedding), None)
    }
}

/// Positions and attention mask of a forward pass; the same for every block.
struct Place {
    turns: (Tensor, Tensor),
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
    fn new(config: &Config, index: i64, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
        let BlockSites { q, k, v, o, gate, up, down } = config.block_sites(index);
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

    fn forward(&self, x: &Tensor, place: &Place, cache: Option<(usize, &mut Cache)>) -> Tensor {
        let heads = self.attend(x, place, cache);
        let x = self.attention.add(x, self.o.forward(&heads));
        let [gate, up] = self.mlp_norm.then_each(&x, [&self.gate, &self.up]);
        self.mlp.add(&x, self.down.forward(&(gate.silu() * up)))
    }

    fn attend(&self, x: &Tensor, place: &Place, cache: Option<(usize, &mut Cache)>) -> Tensor {
        let [batch, tokens, _] = x.size()[..] else { unreachable!("tokens have three dimensions") };
        let split = |x: Tensor, heads: i64| x.reshape([batch, tokens, heads, -1]).transpose(1, 2);
        let [q, k, v] = self.input_norm.then_each(x, [&self.q, &self.k, &self.v]);
        let q = turn(&split(q, self.heads), &place.turns);
        let k = turn(&split(k, self.key_heads), &place.turns);
        let v = split(v, self.key_heads);
        let (outer, inner) = (x.kind(), self.q.kind());
        // Attention adds two more products; the cache also stores keys and values in the narrow dtype.
        let [q, k, v] = if is_narrow(inner) { [q, k, v].map(|x| x.to_kind(inner)) } else { [q, k, v] };
        let (k, v) = match cache {
            Some((layer, cache)) => cache.extend(layer, &k, &v),
            None => (k, v),
        };
        let grouped = self.heads != self.key_heads;
        let mask = place.mask.as_ref();
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, place.causal, None, grouped);
        y.transpose(1, 2).reshape([batch, tokens, -1]).to_kind(outer)
    }
}
