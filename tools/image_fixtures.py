"""Writes the images for tests/pil_parity.rs: sources in several modes and PIL's results.

Run: python tools/image_fixtures.py (needs pillow and numpy; made with pillow 13.0.0). Writes
crates/data-loaders/tests/fixtures/pil/: `<case>.png` or `.jpg` is a source, `<case>.<filter>.<side>.png` the result of
PIL's convert("RGB").resize((side, side), filter).
"""

import struct
import zlib
from pathlib import Path

import numpy
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "crates/data-loaders/tests/fixtures/pil"
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def scene(width, height, channels):
    """Smooth waves, hard edges and some noise, on which resampling kernels differ."""
    random = numpy.random.default_rng(width * 1000 + height)
    y, x = numpy.mgrid[:height, :width]
    planes = [
        127 + 90 * numpy.sin(x / (3 + c) + y / (7 - c)) + 60 * ((x // 9 + y // (5 + c)) % 2) - 30
        for c in range(channels)
    ]
    image = numpy.stack(planes, -1) + random.normal(0, 8, (height, width, channels))
    return numpy.clip(image, 0, 255).astype(numpy.uint8)


def sources():
    yield "rgb_larger", Image.fromarray(scene(83, 61, 3))
    yield "rgb_smaller", Image.fromarray(scene(19, 23, 3))
    yield "rgb_wide", Image.fromarray(scene(120, 17, 3))
    yield "grey", Image.fromarray(scene(40, 33, 1)[..., 0])
    yield "grey_alpha", Image.fromarray(scene(40, 33, 2), mode="LA")
    yield "alpha", Image.fromarray(scene(40, 33, 4), mode="RGBA")
    yield "palette", Image.fromarray(scene(40, 33, 3)).quantize(16)
    yield "bilevel", Image.fromarray(scene(40, 33, 1)[..., 0] > 127)


def smooth(width, height, channels):
    """Without edges, so that two JPEG decoders differ little."""
    y, x = numpy.mgrid[:height, :width]
    planes = [120 + 80 * numpy.sin(x / (9 + 2 * c) + y / (11 - c)) for c in range(channels)]
    return numpy.stack(planes, -1).astype(numpy.uint8)


def png_of_16_bits(width, height, channels):
    """Written by hand: PIL has no such colour mode."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    low = numpy.random.default_rng(channels).integers(0, 256, (height, width, channels))
    # 16-bit grey is clipped at 255, so most values are in that range.
    values = scene(width, height, channels).astype(int) * (1 if channels == 1 else 256) + low
    rows = values.astype(">u2").reshape(height, -1)
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_sources():
    """Writes the sources; returns the path of each."""
    for name, image in sources():
        options = {"transparency": 3} if image.mode == "P" else {}
        path = FOLDER / f"{name}.png"
        image.save(path, optimize=True, **options)
        yield path
    for channels, name in enumerate(("grey16", "grey_alpha16", "rgb16", "alpha16"), 1):
        path = FOLDER / f"{name}.png"
        path.write_bytes(png_of_16_bits(21, 17, channels))
        yield path
    path = FOLDER / "cmyk.jpg"
    Image.fromarray(smooth(48, 40, 4), mode="CMYK").save(path, quality=97)
    yield path
    path = FOLDER / "grey_jpeg.jpg"
    Image.fromarray(smooth(48, 40, 1)[..., 0]).save(path, quality=97)
    yield path
    path = FOLDER / "rotated.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF orientation "rotate by 90 degrees", which torchvision's loader does not apply
    Image.fromarray(smooth(48, 30, 3)).save(path, quality=97, exif=exif)
    yield path


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in write_sources():
        name = path.stem
        for label, resampling in FILTERS.items():
            for side in (24, 32, 50):
                converted = Image.open(path).convert("RGB").resize((side, side), resampling)
                converted.save(FOLDER / f"{name}.{label}.{side}.png", optimize=True)


if __name__ == "__main__":
    main()
