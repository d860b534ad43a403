"""Writes the reference vision-language model for the crate `backbones`: transformers' `LlavaForConditionalGeneration`,
small and random, with two images in a batch of three texts.

    python tools/llava_fixtures.py            # rewrites crates/backbones/tests/fixtures/llava.safetensors

`weights.<key as save_pretrained writes it>`, `images` [2,3,S,S], `tokens` [3,L] (left padded; the third text has no
image), `valid` [3,L], `scores` [3,L,V], `probe`, `grad.<key>` for projector, one matrix of a block and its norm: the
gradient of (scores * probe * valid).sum(); `greedy` [3,6]: the tokens that `generate` appends. `scores` are logits.
Metadata `config` is the published configuration.
"""

import json
import pathlib
import tempfile

import torch
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

import fixture_file

FIXTURES = pathlib.Path(__file__).parent.parent / "crates/backbones/tests/fixtures"
IMAGE = 40
GRADIENTS = ("multi_modal_projector", "language_model.layers.0.self_attn.q_proj", "language_model.norm")


def main():
    torch.set_num_threads(1)
    torch.manual_seed(31)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = LlamaConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=44, max_position_embeddings=64, rms_norm_eps=1e-5,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=4)
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.5 * float(parameter.dim() == 1), std=0.3)
    images = torch.randn(2, 3, 16, 16)
    rows = [[1, 5, *[IMAGE] * 4, 7, 9, 11], [1, *[IMAGE] * 4, 6], [1, 8, 9, 10, 12, 13, 14]]
    length = max(map(len, rows))
    tokens = torch.tensor([[0] * (length - len(row)) + row for row in rows])
    valid = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    places = (valid.cumsum(1) - 1).clamp(min=0)
    scores = model(input_ids=tokens, pixel_values=images, attention_mask=valid, position_ids=places).logits
    probe = torch.randn_like(scores) * valid[..., None]
    (scores * probe).sum().backward()
    arguments = dict(attention_mask=valid, pixel_values=images, max_new_tokens=6, do_sample=False)
    made = model.generate(input_ids=tokens, eos_token_id=99, pad_token_id=0, **arguments)[:, length:]
    tensors = {"images": images, "tokens": tokens, "valid": valid, "scores": scores, "probe": probe, "greedy": made}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors |= {f"weights.{k}": v for k, v in load_file(f"{folder}/model.safetensors").items()}
        published = json.loads(pathlib.Path(folder, "config.json").read_text())
    for name, parameter in model.named_parameters():
        bare = name.removeprefix("model.")
        if bare.startswith(GRADIENTS):
            ours = bare.replace("language_model.", "model.") if "language_model" in bare else bare
            tensors[f"grad.{ours}"] = parameter.grad
    fixture_file.write(FIXTURES / "llava.safetensors", tensors, {"config": json.dumps(published)})


if __name__ == "__main__":
    main()
