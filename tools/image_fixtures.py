"""Makes the images that tests/pil_parity.rs compares with PIL: sources in several modes and PIL's own results.

Run: python tools/image_fixtures.py (needs pillow and numpy; made with pillow 13.0.0).
Writes crates/data-loaders/tests/fixtures/pil/: `<case>.png` is a source, `<case>.<filter>.<side>.png` what PIL's
convert("RGB").resize((side, side), filter) makes of it.
"""

from pathlib import Path

import numpy
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "crates/data-loaders/tests/fixtures/pil"
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def scene(width, height, channels):
    """Smooth waves, hard edges and some noise: what resampling kernels differ on."""
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


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, image in sources():
        options = {"transparency": 3} if image.mode == "P" else {}
        path = FOLDER / f"{name}.png"
        image.save(path, optimize=True, **options)
        for label, resampling in FILTERS.items():
            for side in (24, 32, 50):
                converted = Image.open(path).convert("RGB").resize((side, side), resampling)
                converted.save(FOLDER / f"{name}.{label}.{side}.png", optimize=True)


if __name__ == "__main__":
    main()
