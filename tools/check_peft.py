"""Loads an adapter exported by this project into peft, on the network of san_base.safetensors or, where EXPECTED has
tokens, on that of llama_grouped.safetensors, and compares logits.

    python tools/check_peft.py FOLDER EXPECTED     # EXPECTED: safetensors with `logits`, optionally `tokens`

Called by the test `peft` of the crate `backbones` where SAN_PYTHON names a Python with tools/requirements.txt.
"""

import json
import pathlib
import sys

import peft
import safetensors
import safetensors.torch
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from peft_fixtures import base

LANGUAGE = pathlib.Path(__file__).parent.parent / "crates/backbones/tests/fixtures/llama_grouped.safetensors"


def main(folder, expected):
    expected = safetensors.torch.load_file(expected)
    theirs = expected["logits"]
    if "tokens" in expected:
        adapted = peft.PeftModel.from_pretrained(language_model(), folder).eval()
        found = adapted(expected["tokens"].long()).logits
    else:
        model, images, _ = base()
        found = peft.PeftModel.from_pretrained(model, folder).eval()(images)
    print(f"largest difference {(found - theirs).abs().max():.1e}")
    torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-4)


def language_model():
    with safetensors.safe_open(LANGUAGE, "pt") as file:
        model = LlamaForCausalLM(LlamaConfig(**json.loads(file.metadata()["config"])))
        keys = [key for key in file.keys() if key.startswith("weights.")]
        model.load_state_dict({key.removeprefix("weights."): file.get_tensor(key) for key in keys})
    return model


if __name__ == "__main__":
    main(*sys.argv[1:])
