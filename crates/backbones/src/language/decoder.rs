//! The decoder that LLaMA introduced and others share: RMS norm, rotary embedding, grouped-query attention, SwiGLU,
//! tied or separate output embedding (`transformers/models/llama/modeling_llama.py`).
//!
//! Key names and configuration fields are Hugging Face's. What distinguishes the models that use it is a [`Variant`],
//! in the file of each (`llama`, `qwen2`). SAN's wiring is this project's (docs/method.md, section 2): v to o, o to gate
//! and up, up to down, down to the next block's q, k and v. Under the authors' wiring, published for ViT only, the
//! attention output and a block's input have no anterior.

use std::rc::Rc;

use san_core::nn::branch::Branch;
use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::{Parameter, is_narrow, linear};
use san_core::nn::site::{Norm, Site};
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec, Role, SiteSpec};
use san_core::spec::wiring::{Anterior, Anteriors, ChannelMap};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::Error;
use crate::language::rope::{Rope, Scaling, turn};
use crate::language::{Cache, LanguageArchitecture, LanguageModel, Stage, config, mask, positions};

/// What distinguishes the models that share this decoder.
#[derive(Debug)]
pub struct Variant {
    /// `model_type` of its published configurations.
    pub model_type: &'static str,
    /// transformers' class: `architectures` of its published configurations.
    pub class: &'static str,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Fields of its published configurations that change what is computed, with the values that are supported; an
    /// absent field is `null`.
    pub fixed: &'static [(&'static str, &'static [Value])],
}

/// A configured model.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Its sizes.
    pub config: Config,
    variant: &'static Variant,
}

impl Decoder {
    /// From sizes that are known to be consistent.
    pub fn new(config: Config, variant: &'static Variant) -> Self {
        Self { config, variant }
    }

    /// From the contents of a published `config.json`; the error is a clause that completes a message.
    ///
    /// # Errors
    /// If it describes a model that is not supported, or sizes that no model can have.
    pub fn configure(published: Value, variant: &'static Variant) -> Result<Self, String> {
        config::check_fixed(&published, &[("hidden_act", &[Value::Null, json!("silu")])])?;
        config::check_fixed(&published, variant.fixed)?;
        let config: Config =
            serde_json::from_value(config::modernise(published)).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(Self { config, variant })
    }
}

/// Fields of a published `config.json` that determine the sizes; others are ignored.
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

    fn key_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Channels per head.
    pub fn head_width(&self) -> i64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// Checks that sizes are consistent; the error is a clause that completes a message.
    fn check(&self) -> Result<(), String> {
        let key_heads = self.key_heads();
        config::check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", key_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ])?;
        config::check_epsilon("rms_norm_eps", self.rms_norm_eps)?;
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Err(format!("`rope_theta` is {}; a finite number from 1 on is wanted", self.rope_theta));
        }
        self.rope_scaling.as_ref().map_or(Ok(()), Scaling::check)?;
        if self.num_attention_heads % key_heads != 0 {
            return Err(format!(
                "`num_key_value_heads` is {key_heads}, which does not divide `num_attention_heads`, {}",
                self.num_attention_heads
            ));
        }
        if self.head_dim.is_none() && self.hidden_size % self.num_attention_heads != 0 {
            return Err("`num_attention_heads` does not divide `hidden_size`".into());
        }
        let width = self.head_width();
        if width < 2 || width % 2 != 0 || width > 1 << 16 {
            return Err(format!("heads of {width} channels cannot be turned in pairs"));
        }
        Ok(())
    }

    /// The sites of a block with their anteriors, in order.
    fn block_sites(&self, index: i64, qkv_bias: bool) -> BlockSites {
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
            q: site("self_attn.q_proj", Role::Q, dim, queries).with_bias(qkv_bias).reading(input.clone()),
            k: site("self_attn.k_proj", Role::K, dim, keys).with_bias(qkv_bias).reading(input.clone()),
            v: site("self_attn.v_proj", Role::V, dim, keys).with_bias(qkv_bias).reading(input),
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

impl LanguageArchitecture for Decoder {
    fn model_spec(&self, name: &str) -> ModelSpec {
        let Self { config, variant } = self;
        let dim = config.hidden_size;
        let mut model_spec = ModelSpec::headless(name);
        let small = Init::Normal { mean: 0.0, deviation: 0.02 };
        model_spec.tensor(EMBEDDING, &[config.vocab_size, dim], small.clone());
        for index in 0..config.num_hidden_layers {
            let path = |what: &str| format!("model.layers.{index}.{what}");
            let BlockSites { q, k, v, o, gate, up, down } = config.block_sites(index, variant.qkv_bias);
            model_spec.rms_norm(path("input_layernorm"), dim);
            [q, k, v, o].into_iter().for_each(|site| model_spec.site(site));
            model_spec.branch(path("self_attn"), BranchKind::Attention, dim);
            model_spec.rms_norm(path("post_attention_layernorm"), dim);
            [gate, up, down].into_iter().for_each(|site| model_spec.site(site));
            model_spec.branch(path("mlp"), BranchKind::Mlp, dim);
        }
        model_spec.rms_norm("model.norm", dim);
        if !config.tie_word_embeddings {
            model_spec.tensor(OUTPUT, &[config.vocab_size, dim], small);
        }
        model_spec
    }

    fn channels(&self) -> i64 {
        self.config.hidden_size
    }

    fn vocabulary(&self) -> i64 {
        self.config.vocab_size
    }

    fn context(&self) -> i64 {
        self.config.max_position_embeddings
    }

    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn LanguageModel>, Error> {
        Ok(Box::new(DecoderModel::new(self, builder)?))
    }

    fn published_config(&self) -> Result<Value, Error> {
        let mut published = serde_json::to_value(&self.config)?;
        published["model_type"] = self.variant.model_type.into();
        published["architectures"] = json!([self.variant.class]);
        Ok(published)
    }
}

/// The model.
#[derive(Debug)]
struct DecoderModel {
    embedding: Parameter,
    rope: Rope,
    blocks: Vec<Block>,
    norm: Norm,
    /// `None` if the output embedding is tied.
    output: Option<Parameter>,
}

impl DecoderModel {
    fn new(architecture: &Decoder, builder: &ModelBuilder<'_>) -> Result<Self, Error> {
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

impl LanguageModel for DecoderModel {
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
