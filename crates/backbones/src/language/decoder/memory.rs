//! The forward pass of a decoder on a tape; see `model.rs`.

use san_core::memory::layers::Layers;
use san_core::memory::tape::{Operation, Value};
use san_core::spec::model::NormSpec;

use crate::language::decoder::config::BlockSites;
use crate::language::decoder::{Decoder, EMBEDDING, OUTPUT};

impl Decoder {
    /// The counterpart of `LanguageModel::embed`.
    pub(super) fn embed_on(&self, layers: &Layers, tokens: i64) -> Value {
        let dim = self.config.hidden_size;
        layers.tape.apply(Operation {
            elements: tokens * dim,
            width: layers.setting.width,
            trained: layers.gradient_of(EMBEDDING, self.config.vocab_size * dim),
            ..Operation::default()
        })
    }

    /// A block.
    pub(super) fn block_on(&self, layers: &Layers, index: i64, x: &Value) -> Value {
        let Self { config, variant } = self;
        let BlockSites { q, k, v, o, gate, up, down } = config.block_sites(index, variant.qkv_bias);
        let path = |what: &str| format!("model.layers.{index}.{what}");
        let norm = |what: &str| rms_norm(path(what), config.hidden_size);
        let heads = {
            let mut projected = layers.norm_then(&norm("input_layernorm"), x, &[&q, &k, &v]).into_iter();
            let queries = projected.next().map(|q| rotate(layers, &q));
            let keys = projected.next().map(|k| rotate(layers, &k));
            let inputs: Vec<Value> = queries.into_iter().chain(keys).chain(projected).collect();
            let inputs: Vec<&Value> = inputs.iter().collect();
            let elements = inputs[0].elements;
            layers.attention(&inputs, elements, elements / config.head_width())
        };
        let x = layers.branch(&path("self_attn"), x, layers.forward(&o, &heads));
        let hidden = layers.norm_then(&norm("post_attention_layernorm"), &x, &[&gate, &up]);
        let product = layers.multiply(&layers.function(&hidden[0]), &hidden[1]);
        layers.branch(&path("mlp"), &x, layers.forward(&down, &product))
    }

    /// The norm after the last block.
    pub(super) fn norm_on(&self, layers: &Layers, x: &Value) -> Value {
        layers.norm(&rms_norm("model.norm".into(), self.config.hidden_size), x)
    }

    /// The counterpart of `LanguageModel::logits`.
    pub(super) fn logits_on(&self, layers: &Layers, hidden: &Value) -> Value {
        let table = if self.config.tie_word_embeddings { EMBEDDING } else { OUTPUT };
        let logits = layers.linear(hidden, table, [self.config.vocab_size, self.config.hidden_size], false);
        layers.cast(&logits, 4)
    }

    /// Channels of the keys and values of a token in all blocks.
    pub(super) fn cached_channels(&self) -> i64 {
        2 * self.config.num_hidden_layers * self.config.key_heads() * self.config.head_width()
    }
}

/// x * cosines + the halves of x exchanged * sines.
fn rotate(layers: &Layers, x: &Value) -> Value {
    let Value { elements, width, .. } = *x;
    let temporary = 3 * x.bytes();
    layers.tape.apply(Operation {
        inputs: &[x],
        elements,
        width,
        forward: temporary,
        backward: temporary,
        ..Operation::default()
    })
}

fn rms_norm(name: String, width: i64) -> NormSpec {
    NormSpec { name, width, bias: false }
}
