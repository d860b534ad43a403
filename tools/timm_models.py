"""The arguments that timm gives the constructor of each of its ViT, Swin and ConvNeXt architectures, for backbones.

Run: python tools/timm_models.py (needs timm and torch; made with timm 1.0.20). Writes
crates/backbones/src/vision/timm_models.json: `architectures` lists each name with its class and the arguments that
differ from the class's defaults; `pretrained` lists the input of the weights that this project knows by name
(`pretrained_cfg`). A folder saved by timm names its architecture and nothing else, so its sizes are found here.
"""

import functools
import json
import re
import sys
from pathlib import Path

import timm
import torch
from timm.layers import LayerNorm
from timm.layers.mlp import GluMlp
from timm.models import convnext, deit, swin_transformer, vision_transformer
from timm.models._registry import model_entrypoint

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "crates/backbones/src/vision/timm_models.json"
MODULES = (vision_transformer, swin_transformer, convnext, deit)
# Arguments of `build_model_with_cfg` itself.
NOT_THE_MODELS = ("pretrained_filter_fn", "pretrained_strict", "feature_cfg")
INPUT = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")


class Captured(Exception):
    """Raised in place of building a model, with its class and arguments."""


def capture(model_cls, variant, pretrained, **arguments):
    raise Captured(model_cls.__name__, arguments)


def plain(name, value):
    """An argument as JSON; a layer's class becomes its name, and the epsilon of a norm an argument of its own."""
    if isinstance(value, functools.partial):
        if value.func is LayerNorm and set(value.keywords) == {"eps"}:
            return "norm_eps", value.keywords["eps"]
        if value.func is GluMlp and value.keywords == {"act_layer": torch.nn.SiLU, "gate_last": False}:
            return name, "swiglu_packed"
        return name, f"{value.func.__name__}({value.keywords})"
    if value is torch.nn.SiLU:
        return name, "silu"
    if isinstance(value, type):
        return name, value.__name__
    return name, list(value) if isinstance(value, tuple) else value


def architecture(name):
    try:
        model_entrypoint(name)(pretrained=False)
    except Captured as captured:
        model_cls, arguments = captured.args
        return {"class": model_cls} | dict(
            plain(key, value) for key, value in arguments.items() if key not in NOT_THE_MODELS
        )
    return None


def known_names():
    """The published weights that the registry of backbones lists."""
    sources = (ROOT / "crates/backbones/src/vision").rglob("*.rs")
    names = {name for path in sources for name in re.findall(r'"((?:vit|swin|convnext)_\w+\.\w+)"', path.read_text())}
    return sorted(names)


def main():
    for module in MODULES:
        module.build_model_with_cfg = capture
    names = [name for module in MODULES for name in timm.list_models(module=module.__name__.rsplit(".", 1)[1])]
    architectures = {name: architecture(name) for name in sorted(names)}
    pretrained = {}
    for name in known_names():
        config = timm.get_pretrained_cfg(name).to_dict()
        pretrained[name] = {field: config[field] for field in INPUT}
    sections = {"architectures": architectures, "pretrained": pretrained}
    lines = [f'"timm": "{timm.__version__}"']
    for section, entries in sections.items():
        rows = [f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items() if entry]
        lines.append(f'"{section}": {{\n' + ",\n".join(rows) + "\n  }")
    TARGET.write_text("{\n  " + ",\n  ".join(lines) + "\n}\n")
    print(f"{TARGET.relative_to(ROOT)}: {len(architectures)} architectures, {len(pretrained)} weights", file=sys.stderr)


if __name__ == "__main__":
    main()
