//! A LLaMA from a GGUF file: configuration, names and row order as in Hugging Face.
//!
//! llama.cpp rotates adjacent channels, Hugging Face the two halves of a head; llama.cpp's converter permutes
//! the rows of q and k accordingly, and this module reverts that.

use std::path::Path;

use san_core::Error;
use tch::Tensor;

use crate::gguf::{Header, TensorInfo, dequantise};
use crate::language::llama::Config;
use crate::weights::{Collected, LanguageCheckpoint, Pass, Target, check_config};

/// Reads and dequantises a file tensor by tensor.
///
/// # Errors
/// If the file cannot be read, is truncated, is not a LLaMA, or a tensor is missing, unexpected or of the wrong shape.
pub(crate) fn read(path: &Path, target: Target) -> Result<LanguageCheckpoint, Error> {
    let mut pass = Pass::open(path)?;
    let length = pass.length();
    let header = Header::parse(&mut pass, length, path)?;
    let config = config(&header)?;
    let mut tensors: Vec<&TensorInfo> = header.tensors.values().collect();
    tensors.sort_by_key(|tensor| tensor.start);
    let mut collected = Collected::new(target);
    for info in tensors {
        if info.start < pass.position() {
            return Err(header.malformed(format!("tensor `{}` lies over another", info.name)));
        }
        pass.skip_to(info.start)?;
        let bytes = pass.take(info.bytes)?;
        let values = dequantise(info.kind, &bytes);
        drop(bytes);
        let tensor = Tensor::f_from_slice(&values)?.f_view(info.shape.as_slice())?;
        drop(values);
        let tensor = match info.name.rsplit_once('.').map(|(name, _)| name) {
            Some(name) if name.ends_with(".attn_q") => halves(&tensor, config.num_attention_heads)?,
            Some(name) if name.ends_with(".attn_k") => {
                halves(&tensor, config.num_key_value_heads.unwrap_or(config.num_attention_heads))?
            }
            _ => tensor,
        };
        let name = published(&info.name)
            .ok_or_else(|| header.malformed(format!("tensor `{}` is none of LLaMA's", info.name)))?;
        collected.add(name, &tensor)?;
    }
    let weights = collected.finish(&config, path)?;
    Ok(LanguageCheckpoint { config, weights, checksum: pass.finish()? })
}

fn config(header: &Header) -> Result<Config, Error> {
    match header.text("general.architecture")? {
        "llama" => {}
        other => return Err(header.malformed(format!("its architecture is `{other}`; `llama` is built"))),
    }
    if header.tensors.contains_key("rope_freqs.weight")
        || header.metadata.contains_key("llama.rope.scaling.type")
    {
        return Err(header.malformed("its rotary frequencies are scaled; read its safetensors files instead"));
    }
    if header.metadata.contains_key("llama.expert_count") {
        return Err(header.malformed("it is a mixture of experts, which is not built"));
    }
    let size = |key: &str| {
        let value = i64::try_from(header.unsigned(&format!("llama.{key}"))?);
        value.map_err(|_| header.malformed(format!("`llama.{key}` is too large")))
    };
    let optional =
        |key: &str| header.metadata.contains_key(&format!("llama.{key}")).then(|| size(key)).transpose();
    let embedding = header.tensors.get("token_embd.weight");
    let vocab_size = embedding.and_then(|tensor| tensor.shape.first().copied());
    let theta = "llama.rope.freq_base";
    let usual = Config::new(1, 1, 1, 1, 1);
    let config = Config {
        hidden_size: size("embedding_length")?,
        intermediate_size: size("feed_forward_length")?,
        num_hidden_layers: size("block_count")?,
        num_attention_heads: size("attention.head_count")?,
        num_key_value_heads: optional("attention.head_count_kv")?,
        head_dim: optional("attention.key_length")?,
        vocab_size: vocab_size.ok_or_else(|| header.malformed("it has no tensor `token_embd.weight`"))?,
        max_position_embeddings: size("context_length")?,
        rms_norm_eps: rounded(header.number("llama.attention.layer_norm_rms_epsilon")?),
        rope_theta: if header.metadata.contains_key(theta) {
            header.number(theta)?
        } else {
            usual.rope_theta
        },
        rope_scaling: None,
        tie_word_embeddings: !header.tensors.contains_key("output.weight"),
    };
    check_config(&config).map_err(|reason| header.malformed(reason))?;
    Ok(config)
}

/// 1e-5 stored as f32 is 9.99999974e-6; returns the shortest decimal that rounds to the same f32.
fn rounded(value: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation)]
    let single = value as f32;
    single.to_string().parse().unwrap_or(value)
}

/// Hugging Face's name of a tensor.
fn published(name: &str) -> Option<String> {
    let name = name.strip_suffix(".weight")?;
    let theirs = match name {
        "token_embd" => "model.embed_tokens".to_owned(),
        "output_norm" => "model.norm".to_owned(),
        "output" => "lm_head".to_owned(),
        _ => {
            let (block, what) = name.strip_prefix("blk.")?.split_once('.')?;
            let what = match what {
                "attn_norm" => "input_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "ffn_norm" => "post_attention_layernorm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return None,
            };
            format!("model.layers.{block}.{what}")
        }
    };
    Some(theirs + ".weight")
}

/// Reorders rows from adjacent pairs, `[heads * width, inputs]`, to halves.
fn halves(weight: &Tensor, heads: i64) -> Result<Tensor, Error> {
    let shape = weight.size();
    let [rows, inputs] = shape[..] else { return Ok(weight.shallow_clone()) };
    if rows % (2 * heads) != 0 {
        return Ok(weight.shallow_clone()); // the strict check will report it
    }
    let pairs = weight.f_view([heads, rows / heads / 2, 2, inputs])?;
    Ok(pairs.f_transpose(1, 2)?.f_reshape(shape)?)
}
