//! The decoder that LLaMA introduced and others share: RMS norm, rotary embedding, grouped-query attention, SwiGLU,
//! tied or separate output embedding (`transformers/models/llama/modeling_llama.py`).
//!
//! Key names and configuration fields are Hugging Face's. What distinguishes the models that use it is a `Variant`,
//! in the file of each (`llama`, `qwen2`). SAN's wiring is this project's (docs/method.md, section 2): v to o, o to gate
//! and up, up to down, down to the next block's q, k and v. Under the authors' wiring, published for ViT only, the
//! attention output and a block's input have no anterior.

mod config;
mod memory;
mod model;

use san_core::memory::layers::Layers;
use san_core::memory::tape;
use san_core::nn::builder::ModelBuilder;
use san_core::spec::init::Init;
use san_core::spec::model::{BranchKind, ModelSpec};
use serde_json::{Value, json};

pub use config::Config;

use crate::Error;
use crate::language::config::{check_fixed, normalise};
use crate::language::decoder::config::BlockSites;
use crate::language::decoder::model::DecoderModel;
use crate::language::{LanguageArchitecture, LanguageModel};
use crate::workload::{Tokens, Workload};

const EMBEDDING: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";

/// What distinguishes the models that share this decoder.
#[derive(Debug)]
pub(super) struct Variant {
    /// `model_type` of its published configurations.
    pub(super) model_type: &'static str,
    /// transformers' class: `architectures` of its published configurations.
    pub(super) class: &'static str,
    /// Whether q, k and v have a bias.
    pub(super) qkv_bias: bool,
    /// Fields of its published configurations that change what is computed, with the values that are supported; an
    /// absent field is `null`.
    pub(super) fixed: &'static [(&'static str, &'static [Value])],
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
    pub(super) fn new(config: Config, variant: &'static Variant) -> Self {
        Self { config, variant }
    }

    /// From the contents of a published `config.json`; the error is a clause that completes a message.
    ///
    /// # Errors
    /// If it describes a model that is not supported, or sizes that no model can have.
    pub(super) fn configure(published: Value, variant: &'static Variant) -> Result<Self, String> {
        check_fixed(&published, &[("hidden_act", &[Value::Null, json!("silu")])])?;
        check_fixed(&published, variant.fixed)?;
        let config: Config =
            serde_json::from_value(normalise(published)).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(Self { config, variant })
    }
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

    fn blocks(&self) -> i64 {
        self.config.num_hidden_layers
    }

    fn trace_embedding(&self, layers: &Layers, tokens: i64) -> tape::Value {
        self.embed_on(layers, tokens)
    }

    fn trace_block(&self, layers: &Layers, index: i64, x: &tape::Value) -> tape::Value {
        self.block_on(layers, index, x)
    }

    fn trace_norm(&self, layers: &Layers, x: &tape::Value) -> tape::Value {
        self.norm_on(layers, x)
    }

    fn trace_logits(&self, layers: &Layers, hidden: &tape::Value) -> tape::Value {
        self.logits_on(layers, hidden)
    }

    fn cached_channels(&self) -> i64 {
        Self::cached_channels(self)
    }

    #[allow(clippy::cast_precision_loss)]
    fn workload(&self, Tokens { tokens, pairs, predicted }: Tokens) -> Workload {
        let Self { config, variant } = self;
        let mut work = Workload::default();
        for index in 0..config.num_hidden_layers {
            let BlockSites { q, k, v, o, gate, up, down } = config.block_sites(index, variant.qkv_bias);
            work.apply([q, k, v, o, gate, up, down].iter().map(|site| site.name.as_str()), tokens);
        }
        let width = config.num_attention_heads * config.head_width() * config.num_hidden_layers;
        work.attention = 2.0 * pairs * width as f64;
        work.output = predicted * (config.hidden_size * config.vocab_size) as f64;
        work
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
