"""Writes the reference files for the augmentation tests of the crate data-loaders: timm's own operations, mixup and
cutmix with fixed parameters.

Run: python tools/augmentation_fixtures.py (needs timm, pillow, numpy; made with timm 1.0.20 and pillow 13.0.0).
Writes crates/data-loaders/tests/fixtures/augment/: `<name>.png` is a source, `<name>.results.png` the outputs of
the lines of `operations.json`, one below the other; `mixing.json` contains a batch and the expected results.
"""

import json
import random
from pathlib import Path
from unittest import mock

import numpy
import torch
from PIL import Image
from timm.data import auto_augment, mixup

FOLDER = Path(__file__).resolve().parent.parent / "crates/data-loaders/tests/fixtures/augment"
FILL = (124, 116, 104)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
PLAIN = ["AutoContrast", "Equalize", "Invert"]
GEOMETRY = ["Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"]
ENHANCEMENTS = ["Color", "Contrast", "Brightness", "Sharpness"]
MAGNITUDES = [1.3, 5.0, 9.7]


def scene(width, height):
    """Waves, hard edges and noise; no channel uses all levels."""
    source = numpy.random.default_rng(width)
    y, x = numpy.mgrid[:height, :width]
    planes = [120 + 70 * numpy.sin(x / (3 + c) + y / 5) + 30 * ((x // 4 + y // (3 + c)) % 2) for c in range(3)]
    image = numpy.stack(planes, -1) + source.normal(0, 8, (height, width, 3))
    return Image.fromarray(numpy.clip(image, 6, 247).astype(numpy.uint8))


def cases():
    case = lambda operation, magnitude, increasing=True, negative=False, filter="bilinear": locals()
    yield from (case(operation, 9.0) for operation in PLAIN)
    for magnitude in MAGNITUDES:
        yield case("SolarizeAdd", magnitude)
        yield case("Posterize", magnitude)
        yield from (case("Solarize", magnitude, increasing) for increasing in (True, False))
        for operation in ENHANCEMENTS:
            yield from (case(operation, magnitude, True, negative) for negative in (True, False))
        for operation in GEOMETRY:
            for filter in FILTERS:
                yield from (case(operation, magnitude, True, negative, filter) for negative in (True, False))
    yield from (case(operation, 5.0, False) for operation in ENHANCEMENTS)
    # Posterize with 0 bits is left out: current pillow rejects it, earlier versions returned black.
    yield from (case("Posterize", magnitude, False) for magnitude in (5.0, 9.7))
    yield from (case(operation, 10.0) for operation in ("Solarize", "SolarizeAdd", "Rotate"))
    yield case("Rotate", 0.0, True, True, "bicubic")


def apply(image, operation, magnitude, increasing, negative, filter):
    name = operation
    if increasing and f"{name}Increasing" in auto_augment.NAME_TO_OP:
        name += "Increasing"
    made = auto_augment.AugmentOp(
        name, prob=1.0, magnitude=magnitude, hparams={"img_mean": FILL, "interpolation": FILTERS[filter]}
    )
    # timm negates where the random number is above one half.
    with mock.patch.object(random, "random", lambda: 0.9 if negative else 0.1):
        return made(image)


def write_operations():
    listed = list(cases())
    (FOLDER / "operations.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in listed) + "\n]\n")
    for name, image in {"wide": scene(26, 19), "small": scene(9, 12)}.items():
        image.save(FOLDER / f"{name}.png", optimize=True)
        results = numpy.concatenate([numpy.asarray(apply(image, **case)) for case in listed])
        Image.fromarray(results).save(FOLDER / f"{name}.results.png", optimize=True)


def write_mixing():
    side, classes, smoothing = 7, 5, 0.1
    labels = torch.tensor([3, 0, 4, 1])
    pixels = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0)).mul(64).round() / 64
    listed = []
    for share in (0.3, 0.85):
        listed.append(({"mixup": share, "cutmix": None}, share, None))
    for share, x, y in ((0.4, 3, 2), (0.75, 6, 0), (0.05, 1, 5)):
        listed.append(({"mixup": None, "cutmix": [share, x, y]}, share, (y, x)))
    listed.append(({"mixup": None, "cutmix": None}, 1.0, None))
    results = []
    for case, share, centre in listed:
        mixer = mixup.Mixup(0.8, 1.0, label_smoothing=smoothing, num_classes=classes)
        mixer._params_per_batch = lambda: (share, centre is not None)
        # timm draws the row of the centre, then its column.
        draws = iter(centre or ())
        with mock.patch.object(numpy.random, "randint", lambda *_, **__: next(draws)):
            mixed = pixels.clone()
            share = mixer._mix_batch(mixed)
        targets = mixup.mixup_target(labels, classes, share, smoothing)
        results.append(case | {"pixels": mixed.flatten().tolist(), "targets": targets.flatten().tolist()})
    fixture = {"side": side, "classes": classes, "smoothing": smoothing, "labels": labels.tolist()}
    fixture |= {"pixels": pixels.flatten().tolist(), "cases": results}
    (FOLDER / "mixing.json").write_text(json.dumps(fixture) + "\n")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_operations()
    write_mixing()
