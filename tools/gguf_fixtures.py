"""Writes the reference files for the GGUF reader.

    python tools/gguf_fixtures.py            # rewrites crates/backbones/tests/fixtures/{gguf_*,*.gguf}

- gguf_blocks.safetensors: for each quantised type `<type>.bytes` (random blocks, one number from 0 to 255 per byte)
  and `<type>.values`, the values dequantised by the reference implementation (`gguf.quants`).
- llama_grouped.gguf: the weights of llama_grouped.safetensors, rows of q and k permuted as llama.cpp's converter does.
- qwen2_small.gguf: the weights of qwen2_small.safetensors, in their order, and the vocabulary of tokenizer/qwen2.
"""

import json
import pathlib

import gguf
import numpy
import torch
from gguf import GGMLQuantizationType as Type
from safetensors import safe_open

import fixture_file

FIXTURES = pathlib.Path(__file__).parent.parent / "crates/backbones/tests/fixtures"
BLOCKS = 3
# Offsets of the f16 numbers in a block; all other bytes may have any value.
HALVES = {Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q4_K: [0, 2], Type.Q6_K: [208]}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main():
    random = numpy.random.default_rng(0)
    tensors = {}
    for kind, places in HALVES.items():
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (BLOCKS, size), dtype=numpy.uint8)
        for place in places:
            numbers = random.normal(size=(BLOCKS, 1)).astype(numpy.float16)
            blocks[:, place : place + 2] = numbers.view(numpy.uint8)
        values = gguf.quants.dequantize(blocks.reshape(1, -1), kind)
        tensors[f"{kind.name}.bytes"] = torch.from_numpy(blocks.astype(numpy.float32).reshape(-1))
        tensors[f"{kind.name}.values"] = torch.from_numpy(values.reshape(-1).copy())
    fixture_file.write(FIXTURES / "gguf_blocks.safetensors", tensors, {"config": "{}"})
    write_model("llama_grouped", "llama")
    write_model("qwen2_small", "qwen2", vocabulary=FIXTURES / "tokenizer/qwen2/tokenizer.json")


def write_model(name, architecture, vocabulary=None):
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as source:
        config = json.loads(source.metadata()["config"])
        weights = {key[8:]: source.get_tensor(key).numpy() for key in source.keys() if key.startswith("weights.")}
    writer = gguf.GGUFWriter(FIXTURES / f"{name}.gguf", architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if vocabulary:
        add_vocabulary(writer, json.loads(vocabulary.read_text()))
    for key, tensor in weights.items():
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(key.split(".")[-2])
        permute = heads and architecture == "llama"
        writer.add_tensor(renamed(key), permuted(tensor, config[heads]) if permute else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer, document):
    """The metadata that llama.cpp's converter writes for Qwen2's vocabulary."""
    tokens = dict(document["model"]["vocab"])
    added = {token["content"]: token["id"] for token in document["added_tokens"]}
    tokens |= added
    ordered = sorted(tokens, key=tokens.get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(ordered)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in added else normal for token in ordered])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens["<|endoftext|>"])
    writer.add_add_bos_token(False)


def renamed(key):
    name, part = key.rsplit(".", 1)
    if name.startswith("model.layers."):
        block, name = name.removeprefix("model.layers.").split(".", 1)
        return f"blk.{block}.{NAMES[name]}.{part}"
    return f"{NAMES[name]}.{part}"


def permuted(tensor, heads):
    """Rotary rows from the half-split to the interleaved order."""
    rows, inputs = tensor.shape
    return numpy.ascontiguousarray(tensor.reshape(heads, 2, rows // heads // 2, inputs).swapaxes(1, 2).reshape(rows, inputs))


if __name__ == "__main__":
    main()
