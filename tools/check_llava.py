"""Loads a model that the crate `backbones` has written into transformers and compares the scores; called by a test.

    python tools/check_llava.py FOLDER     # config.json, model.safetensors, expected.safetensors
"""

import sys

import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration


def main():
    folder = sys.argv[1]
    model, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], (kind, report[kind])
    expected = load_file(f"{folder}/expected.safetensors")
    tokens, valid = expected["tokens"].long(), expected["valid"].long()
    places = (valid.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        scores = model.eval()(
            input_ids=tokens, pixel_values=expected["images"], attention_mask=valid, position_ids=places
        ).logits
    difference = ((scores - expected["scores"]) * valid[..., None]).abs().max().item()
    print(f"scores differ by {difference:.1e}")
    assert difference < 1e-4


if __name__ == "__main__":
    main()
