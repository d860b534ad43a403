"""Folders of small timm models as `timm.models.save_for_hf` writes them, with random weights, for the crate backbones.

Run: python tools/timm_folder_fixtures.py (needs timm and torch). Writes crates/backbones/tests/fixtures/timm/<name>/:
`config.json` and `model.safetensors` (with head, and in one folder with buffers of older versions of timm), and
`expected.safetensors` with `input` [2,3,S,S], `features` (before the head) and `logits` of the model that timm makes of
these files.
"""

import json
import pathlib
import shutil

import safetensors.torch
import timm
import torch
from timm.models import _hub, save_for_hf

import reference_vit as vit

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "crates/backbones/tests/fixtures/timm"
SMALL_VIT = dict(img_size=48, patch_size=8, embed_dim=24, depth=2, num_heads=3)
SMALL_CONVNEXT = dict(depths=[1, 1, 2, 1], dims=[8, 12, 16, 20])
MODELS = {
    "vit": ("vit_tiny_patch16_224", SMALL_VIT),
    "clip": ("vit_base_patch32_clip_quickgelu_224", SMALL_VIT),
    "average_pool": ("vit_base_patch16_224", SMALL_VIT | dict(class_token=False, global_pool="avg", fc_norm=False)),
    "registers": ("vit_so150m2_patch16_reg1_gap_256", SMALL_VIT | dict(num_heads=2)),
    "swin": (
        "swin_tiny_patch4_window7_224",
        dict(img_size=48, embed_dim=12, depths=[2, 1], num_heads=[2, 3], window_size=4),
    ),
    "convnext": ("convnext_atto", SMALL_CONVNEXT),
    "convnext_v2": ("convnextv2_atto", SMALL_CONVNEXT),
}
CLASSES = 7


def write(name, architecture, arguments, seed):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    model = timm.create_model(architecture, num_classes=CLASSES, **arguments)
    vit.randomise(model, generator)
    size = arguments.get("img_size", 64)
    # As a user who trained it would: the input of its own training, not of the architecture's usual weights.
    model.pretrained_cfg |= dict(
        input_size=(3, size, size),
        mean=(0.4, 0.45, 0.5),
        std=(0.25, 0.26, 0.27),
        interpolation="bicubic",
        crop_pct=0.95,
        num_classes=CLASSES,
    )
    save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    saved = json.loads((folder / "config.json").read_text())
    loaded = timm.create_model(
        saved["architecture"],
        num_classes=saved["num_classes"],
        checkpoint_path=folder / "model.safetensors",
        **saved["model_args"],
    ).eval()
    images = torch.randn((2, 3, size, size), generator=generator)
    with torch.no_grad():
        features = loaded.forward_head(loaded.forward_features(images), pre_logits=True)
        expected = {"input": images, "features": features, "logits": loaded(images)}
    expected = {key: value.contiguous() for key, value in expected.items()}
    safetensors.torch.save_file(expected, folder / "expected.safetensors")
    if name == "swin":
        path = folder / "model.safetensors"
        buffers = {key: value for key, value in model.named_buffers() if "relative_position_index" in key}
        assert buffers
        safetensors.torch.save_file(safetensors.torch.load_file(path) | buffers, path, {"format": "pt"})


def main():
    torch.set_num_threads(1)
    # Nothing is sent to the Hub, whose newest client this timm does not recognise.
    _hub._has_hf_hub = True
    for seed, (name, (architecture, arguments)) in enumerate(MODELS.items(), start=1):
        write(name, architecture, arguments, seed)


if __name__ == "__main__":
    main()
