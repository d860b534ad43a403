//! Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): LLaMA's decoder with biases on q, k and v.
//! `transformers/models/qwen2/modeling_qwen2.py`.

use std::sync::Arc;

use serde_json::Value;

use crate::language::Family;
use crate::language::decoder::{Decoder, Variant};

/// The published models.
pub(super) const FAMILY: Family = Family {
    model_type: QWEN2.model_type,
    configure: |published| Ok(Arc::new(Decoder::configure(published, &QWEN2)?)),
    adjacent_pairs_in_gguf: false,
};

static QWEN2: Variant = Variant {
    model_type: "qwen2",
    class: "Qwen2ForCausalLM",
    qkv_bias: true,
    fixed: &[
        ("quantization_config", &[Value::Null]),
        // Published configurations name a `sliding_window` that this switches off.
        ("use_sliding_window", &[Value::Null, Value::Bool(false)]),
        ("partial_rotary_factor", &[Value::Null]),
    ],
};
