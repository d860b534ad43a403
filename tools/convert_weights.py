"""Converts published weights from pickles to safetensors, which is all that this project reads.

    python tools/convert_weights.py weights/vicuna-7b-v1.5         # every *.bin and *.pth of a folder
    python tools/convert_weights.py weights/clip/pytorch_model.bin # one file

A pickle is opened with `weights_only=True`: it can then contain tensors and plain values, but no code. The tensors of
`pytorch_model.bin` are written to `model.safetensors`, those of `pytorch_model-00001-of-00002.bin` to
`model-00001-of-00002.safetensors` with an index, and those of any other file to a file of its name. The pickles remain;
remove them when the model has been opened once. Needs torch and safetensors (tools/requirements.txt).
"""

import argparse
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

ENDINGS = (".bin", ".pth")
INDEX = "model.safetensors.index.json"


def tensors_of(path):
    """Name to tensor, each with memory of its own: safetensors has no shared memory."""
    stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # Checkpoints of training runs have the weights one level further down.
    for key in ("state_dict", "model"):
        if isinstance(stored.get(key), dict):
            stored = stored[key]
    tensors = {name: value for name, value in stored.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError("it contains no tensors by name")
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}


def target_of(path):
    stem = path.stem
    return path.with_name(stem.replace("pytorch_model", "model", 1) + ".safetensors")


def convert(path):
    """Writes the safetensors file of a pickle; returns its path, and the size in bytes of each of its tensors."""
    target = target_of(path)
    if target == path:
        raise ValueError("it is a pickle by another name; rename it to pytorch_model.bin first")
    if target.exists():
        raise FileExistsError(f"{target} already exists")
    tensors = tensors_of(path)
    # Under another name until it is complete. `format` is what transformers expects.
    new = target.with_name(target.name + ".new")
    save_file(tensors, new, metadata={"format": "pt"})
    new.rename(target)
    return target, {name: value.numel() * value.element_size() for name, value in tensors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=pathlib.Path, help="a pickle, or a folder with pickles")
    path = parser.parse_args().path
    files = [path] if path.is_file() else sorted(file for file in path.glob("*") if file.suffix in ENDINGS)
    if not files:
        sys.exit(f"{path} contains no {' or '.join(ENDINGS)} file")
    places, total = {}, 0
    for file in files:
        try:
            target, sizes = convert(file)
        except Exception as error:
            sys.exit(f"{file}: {error}")
        print(f"{file} -> {target}: {len(sizes)} tensors")
        places.update(dict.fromkeys(sizes, target.name))
        total += sum(sizes.values())
    shards = sorted(name for name in set(places.values()) if "-of-" in name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": {n: f for n, f in places.items() if f in shards}}
        (files[0].parent / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
