"""Writes the reference CLIP vision tower for the crate `backbones`: transformers' `CLIPVisionModel`, small and random.

    python tools/clip_fixtures.py            # rewrites crates/backbones/tests/fixtures/clip_*.safetensors

`weights.<published key>`, `input` [2,3,S,S], `features` (pooler_output), `tokens_<n>` (hidden_states[n] without the class
token, n = -1, -2, 1), `probe` [2,patches,dim], `grad.<published key>`: the gradient of (hidden_states[-2] * probe).sum()
without the class token, for every parameter that it reaches. Metadata `config` is the published configuration.
"""

import pathlib

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

import fixture_file
import reference_vit as vit

FIXTURES = pathlib.Path(__file__).parent.parent / "crates/backbones/tests/fixtures"


def main():
    torch.set_num_threads(1)
    sizes = dict(image_size=24, patch_size=8, hidden_size=24, intermediate_size=40, num_hidden_layers=3)
    write("clip_quick_gelu", CLIPVisionConfig(num_attention_heads=3, **sizes), seed=21)
    write("clip_gelu", CLIPVisionConfig(num_attention_heads=2, hidden_act="gelu", layer_norm_eps=1e-3, **sizes), seed=22)


def write(name, config, seed):
    generator = torch.Generator().manual_seed(seed)
    model = vit.randomise(CLIPVisionModel(config).eval(), generator)
    images = torch.randn((2, 3, config.image_size, config.image_size), generator=generator)
    probe = torch.randn((2, (config.image_size // config.patch_size) ** 2, config.hidden_size), generator=generator)
    output = model(images, output_hidden_states=True)
    patches = {n: output.hidden_states[n][:, 1:] for n in (-1, -2, 1)}
    tensors = {"input": images, "features": output.pooler_output, "probe": probe}
    tensors |= {f"tokens_{n}": tokens for n, tokens in patches.items()}
    # Published files have the tower under the prefix `vision_model`.
    named = {published(key): parameter for key, parameter in model.named_parameters()}
    tensors |= {f"weights.{key}": parameter for key, parameter in named.items()}
    loss = (patches[-2] * probe).sum()
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    tensors |= {f"grad.{key}": value for key, value in zip(named, found, strict=True) if value is not None}
    fixture_file.write(FIXTURES / f"{name}.safetensors", tensors, {"config": config.to_json_string()})


def published(key):
    return key if key.startswith("vision_model.") else f"vision_model.{key}"


if __name__ == "__main__":
    main()
