"""Writes the reference files for the language models of the crate `backbones`: logits, gradients and generated tokens
of small random networks by transformers.

    python tools/language_fixtures.py            # rewrites crates/backbones/tests/fixtures/{llama*,qwen2_*}.safetensors

Every file is safetensors, f32, with the published configuration as JSON under the metadata key `config`:
`weights.<key>`, `tokens` [2,9], `probe` [2,9,V], `scores` [2,9,V], `grad.<key>`: the gradient of (scores * probe).sum();
`padded.tokens` [3,7] with `padded.valid` (left padding) and `padded.scores`; and the tokens that `generate` appends
to the padded ones: `greedy` and `beams` (4 beams) [3,12], undefined after the end token 1; `greedy_ends` and `beams_ends`
(3 beams) [3,12], undefined after any of the end tokens 1, 3, 7 and 9. (`scores` are logits.)
llama_grouped.safetensors and qwen2_small.safetensors have only `weights.<key>`, `input`, `probe` and `logits`.
"""

import json
import pathlib

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import fixture_file

FIXTURES = pathlib.Path(__file__).parent.parent / "crates/backbones/tests/fixtures"
END = 1
ENDS = [1, 3, 7, 9]
CLASSES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}


def main():
    torch.set_num_threads(1)
    plain = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, vocab_size=31)
    write("llama_plain", plain, seed=1)
    write("llama_grouped_tied", plain | dict(num_key_value_heads=2, tie_word_embeddings=True, head_dim=8), seed=2)
    write("llama_grouped", plain | dict(num_key_value_heads=2, vocab_size=11), seed=4, deviation=0.2, small=True)
    # A context short enough for the scaling to have an effect within a few tokens.
    scaling = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    scaling |= dict(original_max_position_embeddings=16, rope_theta=500.0)
    write("llama3_scaled", plain | dict(num_key_value_heads=1, rope_parameters=scaling), seed=3)
    # As published: a sliding window that is switched off, and a tied head in the small models.
    qwen2 = plain | dict(model_type="qwen2", use_sliding_window=False, sliding_window=4, max_window_layers=1)
    write("qwen2_plain", qwen2 | dict(num_key_value_heads=4), seed=5)
    write("qwen2_grouped_tied", qwen2 | dict(num_key_value_heads=2, tie_word_embeddings=True), seed=6)
    # With as many tokens as the vocabulary in fixtures/tokenizer/qwen2.
    small = dict(num_key_value_heads=2, vocab_size=320, tie_word_embeddings=True)
    write("qwen2_small", qwen2 | small, seed=7, deviation=0.2, small=True)


def write(name, settings, seed, deviation=0.3, small=False):
    torch.manual_seed(seed)
    settings = {"model_type": "llama"} | settings
    make_config, make_model = CLASSES[settings["model_type"]]
    own = {key: value for key, value in settings.items() if key != "model_type"}
    config = make_config(**own, max_position_embeddings=64, rms_norm_eps=1e-5, attn_implementation="eager")
    model = make_model(config).eval()
    for name_, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(name_.endswith("norm.weight")), std=deviation)
    tokens = torch.randint(2, config.vocab_size, (2, 9))
    scores = model(tokens).logits
    probe = torch.randn_like(scores)
    (scores * probe).sum().backward()
    tensors = {"tokens": tokens, "scores": scores, "probe": probe}
    parameters = dict(model.named_parameters())
    tensors |= {f"weights.{key}": value for key, value in parameters.items()}
    tensors |= {f"grad.{key}": value.grad for key, value in parameters.items()}
    if small:  # for the tests of every method, which use these names for a model's input and output
        keys = [key for key in tensors if key.startswith("weights.")]
        names = {"input": "tokens", "logits": "scores", "probe": "probe"} | {key: key for key in keys}
        tensors = {ours: tensors[name] for ours, name in names.items()}
    else:
        tensors |= padded(model, config)
    fixture_file.write(FIXTURES / f"{name}.safetensors", tensors, {"config": json.dumps(published(settings))})


@torch.no_grad()
def padded(model, config):
    tokens = torch.randint(2, config.vocab_size, (3, 7))
    lengths = torch.tensor([7, 4, 2])
    valid = torch.arange(7)[None] >= (7 - lengths)[:, None]
    tokens = tokens * valid
    arguments = dict(attention_mask=valid.long(), max_new_tokens=12, do_sample=False, eos_token_id=END, pad_token_id=0)
    made = {"greedy": model.generate(tokens, **arguments), "beams": model.generate(tokens, num_beams=4, **arguments)}
    for name, beams in (("greedy_ends", 1), ("beams_ends", 3)):
        made[name] = model.generate(tokens, num_beams=beams, **(arguments | dict(eos_token_id=ENDS)))
    places = {"position_ids": (valid.long().cumsum(1) - 1).clamp(min=0), "attention_mask": valid.long()}
    tensors = {"padded.tokens": tokens, "padded.valid": valid, "padded.scores": model(tokens, **places).logits}
    for name, sequences in made.items():
        new = sequences[:, 7:]
        tensors[name] = torch.nn.functional.pad(new, (0, 12 - new.shape[1]))
    return tensors


def published(settings):
    """The configuration in the form of a published config.json."""
    settings = settings | dict(max_position_embeddings=64, rms_norm_eps=1e-5)
    scaling = dict(settings.pop("rope_parameters", {}))
    if scaling:
        settings |= dict(rope_theta=scaling.pop("rope_theta"), rope_scaling=scaling)
    return settings


if __name__ == "__main__":
    main()
