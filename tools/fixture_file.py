"""Writes a safetensors file whose bytes depend on nothing but its contents, so that making the fixtures again shows no
difference where there is none. (The library orders metadata as its hash map happens to.)"""

import json

from safetensors.torch import save


def write(path, tensors, metadata):
    """Stores `tensors` as f32 under their names, with a `metadata` of texts."""
    stored = {name: tensor.detach().float().contiguous().clone() for name, tensor in tensors.items()}
    content = save(stored, metadata)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    print(f"{path.name}: {path.stat().st_size // 1024} KB, {len(stored)} tensors")
