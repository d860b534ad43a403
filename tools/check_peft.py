"""Loads an adapter that this project exported into peft, on the network of san_base.safetensors, and compares scores.

    python tools/check_peft.py FOLDER EXPECTED     # EXPECTED: safetensors with `logits`

The test `peft` of the crate `backbones` calls it where SAN_PYTHON names a Python with tools/requirements.txt.
"""

import sys

import peft
import safetensors.torch
import torch

from peft_fixtures import base


def main(folder, expected):
    model, images, _ = base()
    adapted = peft.PeftModel.from_pretrained(model, folder).eval()
    found = adapted(images)
    theirs = safetensors.torch.load_file(expected)["logits"]
    print(f"largest difference {(found - theirs).abs().max():.1e}")
    torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-4)


if __name__ == "__main__":
    main(*sys.argv[1:])
