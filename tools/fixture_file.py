"""Writes a safetensors file whose bytes depend only on its contents, so that regenerating unchanged fixtures leaves the
files identical. (The library writes metadata in the order of its hash map, which varies.)"""

import json

from safetensors.torch import save


def write(path, tensors, metadata):
    """Stores `tensors` as f32 under their names, with `metadata` of strings."""
    stored = {name: tensor.detach().float().contiguous().clone() for name, tensor in tensors.items()}
    content = save(stored, metadata)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    print(f"{path.name}: {path.stat().st_size // 1024} KB, {len(stored)} tensors")
