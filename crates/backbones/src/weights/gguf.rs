//! A language model from a GGUF file: configuration, names and row order as in Hugging Face.
//!
//! llama.cpp rotates adjacent channels of a LLaMA, Hugging Face the two halves of a head; llama.cpp's converter permutes
//! the rows of q and k accordingly, and this module reverts that.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tch::Tensor;

use crate::Error;
use crate::gguf::{Header, TensorInfo, dequantise};
use crate::language::{Family, LanguageArchitecture, family};
use crate::weights::{Collected, HashingReader, LanguageCheckpoint, Target};

/// Reads and dequantises a file tensor by tensor.
///
/// # Errors
/// If the file cannot be read, is truncated, its architecture is not supported, or a tensor is missing, unexpected or of the wrong shape.
pub(crate) fn read(path: &Path, target: Target) -> Result<LanguageCheckpoint, Error> {
    let mut reader = HashingReader::open(path)?;
    let length = reader.length();
    let header = Header::parse(&mut reader, length, path)?;
    let Configured { family, architecture, query_heads, key_heads } = configure(&header)?;
    let mut tensors: Vec<&TensorInfo> = header.tensors.values().collect();
    tensors.sort_by_key(|tensor| tensor.start);
    let mut collected = Collected::new(target);
    for info in tensors {
        if info.start < reader.position() {
            return Err(header.malformed(format!("tensor `{}` overlaps another", info.name)));
        }
        reader.skip_to(info.start)?;
        let bytes = reader.take(info.bytes)?;
        let values = dequantise(info.kind, &bytes);
        drop(bytes);
        let tensor = Tensor::f_from_slice(&values)?.f_view(info.shape.as_slice())?;
        drop(values);
        let tensor = match info.name.rsplit_once('.') {
            Some((name, "weight")) if family.adjacent_pairs_in_gguf && name.ends_with(".attn_q") => {
                rows_in_halves(&tensor, query_heads)?
            }
            Some((name, "weight")) if family.adjacent_pairs_in_gguf && name.ends_with(".attn_k") => {
                rows_in_halves(&tensor, key_heads)?
            }
            _ => tensor,
        };
        let name = published(&info.name).ok_or_else(|| {
            header.malformed(format!("tensor `{}` does not belong to this architecture", info.name))
        })?;
        collected.add(name, &tensor)?;
    }
    let weights = collected.finish(&*architecture, path)?;
    Ok(LanguageCheckpoint { architecture, weights, checksum: reader.finish()? })
}

/// What the metadata of a file describes.
struct Configured {
    family: &'static Family,
    architecture: Arc<dyn LanguageArchitecture>,
    query_heads: i64,
    key_heads: i64,
}

/// The architecture of a file, without its tensors.
pub(super) fn architecture(path: &Path) -> Result<Arc<dyn LanguageArchitecture>, Error> {
    Ok(configure(&Header::read(path)?)?.architecture)
}

fn configure(header: &Header) -> Result<Configured, Error> {
    let model_type = header.text("general.architecture")?;
    let family = family(model_type).map_err(|reason| header.malformed(reason))?;
    let (config, [query_heads, key_heads]) = published_config(header, model_type)?;
    let architecture = (family.configure)(config).map_err(|reason| header.malformed(reason))?;
    Ok(Configured { family, architecture, query_heads, key_heads })
}

/// The configuration in Hugging Face's form, from metadata under the architecture's own prefix; and the numbers of query
/// and of key heads.
fn published_config(header: &Header, model_type: &str) -> Result<(Value, [i64; 2]), Error> {
    let key = |name: &str| format!("{model_type}.{name}");
    let has = |name: &str| header.metadata.contains_key(&key(name));
    if header.tensors.contains_key("rope_freqs.weight") || has("rope.scaling.type") {
        return Err(header.malformed("its rotary frequencies are scaled; read its safetensors files instead"));
    }
    if has("expert_count") {
        return Err(header.malformed("it is a mixture of experts, which is not supported"));
    }
    let size = |name: &str| {
        let value = i64::try_from(header.unsigned(&key(name))?);
        value.map_err(|_| header.malformed(format!("`{}` is too large", key(name))))
    };
    let embedding = header.tensors.get("token_embd.weight");
    let vocabulary = embedding.and_then(|tensor| tensor.shape.first());
    let vocabulary = vocabulary.ok_or_else(|| header.malformed("it has no tensor `token_embd.weight`"))?;
    let queries = size("attention.head_count")?;
    let keys = if has("attention.head_count_kv") { size("attention.head_count_kv")? } else { queries };
    let mut config = json!({
        "model_type": model_type,
        "hidden_size": size("embedding_length")?,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": size("block_count")?,
        "num_attention_heads": queries,
        "num_key_value_heads": keys,
        "vocab_size": vocabulary,
        "max_position_embeddings": size("context_length")?,
        "rms_norm_eps": rounded(header.number(&key("attention.layer_norm_rms_epsilon"))?),
        "tie_word_embeddings": !header.tensors.contains_key("output.weight"),
    });
    if has("attention.key_length") {
        config["head_dim"] = size("attention.key_length")?.into();
    }
    if has("rope.freq_base") {
        config["rope_theta"] = header.number(&key("rope.freq_base"))?.into();
    }
    Ok((config, [queries, keys]))
}

/// 1e-5 stored as f32 is 9.99999974e-6; returns the shortest decimal that rounds to the same f32.
fn rounded(value: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation)]
    let single = value as f32;
    single.to_string().parse().unwrap_or(value)
}

/// Hugging Face's name of a tensor.
fn published(name: &str) -> Option<String> {
    let (name, part) = name.rsplit_once('.').filter(|(_, part)| ["weight", "bias"].contains(part))?;
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
    Some(format!("{theirs}.{part}"))
}

/// Reorders rows from adjacent pairs, `[heads * width, inputs]`, to halves.
fn rows_in_halves(weight: &Tensor, heads: i64) -> Result<Tensor, Error> {
    let shape = weight.size();
    let [rows, inputs] = shape[..] else { return Ok(weight.shallow_clone()) };
    if rows % (2 * heads) != 0 {
        return Ok(weight.shallow_clone()); // the strict check will report it
    }
    let pairs = weight.f_view([heads, rows / heads / 2, 2, inputs])?;
    Ok(pairs.f_transpose(1, 2)?.f_reshape(shape)?)
}
