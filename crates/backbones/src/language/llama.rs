//! LLaMA 1 to 3 (arXiv 2302.13971, 2307.09288, 2407.21783) and what is trained in its form, SmolLM2 among others:
//! `transformers/models/llama/modeling_llama.py`.

use std::sync::Arc;

use serde_json::Value;

use crate::language::Family;
use crate::language::decoder::{Config, Decoder, Variant};

/// The published models.
pub(super) const FAMILY: Family = Family {
    model_type: LLAMA.model_type,
    configure: |published| Ok(Arc::new(Decoder::configure(published, &LLAMA)?)),
    adjacent_pairs_in_gguf: true,
};

static LLAMA: Variant = Variant {
    model_type: "llama",
    class: "LlamaForCausalLM",
    qkv_bias: false,
    fixed: &[
        ("attention_bias", &[Value::Null, Value::Bool(false)]),
        ("mlp_bias", &[Value::Null, Value::Bool(false)]),
        ("quantization_config", &[Value::Null]),
        ("sliding_window", &[Value::Null]),
        ("partial_rotary_factor", &[Value::Null]),
    ],
};

/// A LLaMA of these sizes.
pub fn llama(config: Config) -> Decoder {
    Decoder::new(config, &LLAMA)
}

/// LLaMA-7B (arXiv 2302.13971, table 2).
pub fn llama_7b() -> Decoder {
    llama(Config::new(4096, 11_008, 32, 32, 32_000))
}
