"""Loads a merged safetensors file into timm with strict key matching and compares its outputs.

    python tools/check_timm.py MERGED.safetensors --input INPUT.safetensors --expect 1e-4

The network is built from timm's arguments in the file's metadata key `config`, or from a JSON file (--config). INPUT
holds `input` [batch,3,S,S] and, where --expect is given, the expected `logits` [batch,classes]. Exit code 1 when
the keys or shapes differ from timm's, or the logits by more than --expect.
"""

import argparse
import json
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file

import reference_vit


def main():
    arguments = parse_arguments()
    weights = load_file(arguments.file)
    model = reference_vit.timm_model(settings(arguments, weights))
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=True)
    except RuntimeError as error:
        sys.exit(f"{arguments.file} is not what timm expects: {error}")
    print(f"{arguments.file}: {len(weights)} tensors load in timm with strict keys")
    if arguments.input:
        compare(model, load_file(arguments.input), arguments.expect)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--config", type=pathlib.Path, help="JSON of the model's arguments, if the file has none")
    parser.add_argument("--input", type=pathlib.Path, help="safetensors with `input` and perhaps `logits`")
    parser.add_argument("--expect", type=float, help="largest difference from `logits` that passes")
    arguments = parser.parse_args()
    if arguments.expect is not None and arguments.input is None:
        parser.error("--expect needs --input")
    return arguments


def settings(arguments, weights):
    """The model's arguments; the number of classes is that of the head, which was replaced for the task."""
    if arguments.config:
        text = arguments.config.read_text()
    else:
        with safe_open(arguments.file, "pt") as file:
            text = (file.metadata() or {}).get("config")
    if text is None:
        sys.exit(f"{arguments.file} has no metadata `config`; give --config")
    classes = len(weights["head.weight"]) if "head.weight" in weights else 0
    return {"norm_eps": 1e-6} | json.loads(text) | {"num_classes": classes}


def compare(model, given, expect):
    with torch.no_grad():
        logits = model(given["input"].float())
    for row in logits.tolist():
        print(" ".join(f"{value:.6f}" for value in row))
    if expect is None:
        return
    if "logits" not in given:
        sys.exit("--expect needs `logits` in the input file")
    difference = (logits - given["logits"].float()).abs().max().item()
    print(f"maximum absolute difference {difference:.3g}")
    if not difference <= expect:
        sys.exit(f"the logits differ by {difference:.3g}, more than {expect:g}")


if __name__ == "__main__":
    main()
