"""Writes a full-size random model built by timm, and its outputs for two random images.

    python tools/full_size_model.py NAME FOLDER    # model.safetensors (no head), expected.safetensors (input, features)

Called by the test `hierarchical` of the crate `backbones` where SAN_FULL_SIZE is set and SAN_PYTHON names a Python with
tools/requirements.txt. The files are not committed: they have several hundred MB.
"""

import pathlib
import sys

import safetensors.torch
import timm
import torch

from reference_vit import randomise


def main(name, folder):
    generator = torch.Generator().manual_seed(0)
    model = randomise(timm.create_model(name, pretrained=False, num_classes=0), generator).eval()
    size = model.pretrained_cfg["input_size"][-1]
    images = torch.randn((2, 3, size, size), generator=generator)
    with torch.no_grad():
        features = model(images)
    folder = pathlib.Path(folder)
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    safetensors.torch.save_file({"input": images, "features": features}, folder / "expected.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
