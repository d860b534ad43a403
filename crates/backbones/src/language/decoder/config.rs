//! Sizes of a decoder, under the names of Hugging Face's `config.json`, their checks, and the sites of a block.

use san_core::spec::model::{Role, SiteSpec};
use san_core::spec::wiring::{Anterior, Anteriors, ChannelMap};
use serde::{Deserialize, Serialize};

use crate::language::rope::Scaling;
use crate::sizes::{check_epsilon, check_sizes};

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
    #[serde(default = "default_context")]
    pub max_position_embeddings: i64,
    /// Epsilon of the norms.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<Scaling>,
    /// Whether the output embedding is tied to the input embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

fn default_context() -> i64 {
    2048
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_theta() -> f64 {
    1e4
}

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
            max_position_embeddings: default_context(),
            rms_norm_eps: default_epsilon(),
            rope_theta: default_theta(),
            rope_scaling: None,
            tie_word_embeddings: false,
        }
    }

    pub(super) fn key_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Channels per head.
    pub(super) fn head_width(&self) -> i64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// Checks that sizes are consistent; the error is a clause that completes a message.
    pub(super) fn check(&self) -> Result<(), String> {
        let key_heads = self.key_heads();
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", key_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ])?;
        check_epsilon("rms_norm_eps", self.rms_norm_eps)?;
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Err(format!(
                "`rope_theta` is {}; expected a finite number of at least 1",
                self.rope_theta
            ));
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
            return Err(format!("heads of {width} channels cannot be rotated in pairs"));
        }
        Ok(())
    }

    /// The sites of a block with their anteriors, in order.
    pub(super) fn block_sites(&self, index: i64, qkv_bias: bool) -> BlockSites {
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
            q: site("self_attn.q_proj", Role::Q, dim, queries)
                .with_bias(qkv_bias)
                .with_anteriors(input.clone()),
            k: site("self_attn.k_proj", Role::K, dim, keys).with_bias(qkv_bias).with_anteriors(input.clone()),
            v: site("self_attn.v_proj", Role::V, dim, keys).with_bias(qkv_bias).with_anteriors(input),
            o: site("self_attn.o_proj", Role::Proj, queries, dim).with_anteriors(heads),
            gate: site("mlp.gate_proj", Role::Gate, dim, mlp).with_anteriors(output()),
            up: site("mlp.up_proj", Role::Up, dim, mlp).with_anteriors(output()),
            down: site("mlp.down_proj", Role::Down, mlp, dim)
                .with_anteriors(Anteriors::always(path("mlp.up_proj"))),
        }
    }
}

/// The projections of a block.
pub(super) struct BlockSites {
    pub(super) q: SiteSpec,
    pub(super) k: SiteSpec,
    pub(super) v: SiteSpec,
    pub(super) o: SiteSpec,
    pub(super) gate: SiteSpec,
    pub(super) up: SiteSpec,
    pub(super) down: SiteSpec,
}
