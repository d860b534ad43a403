"""Samples of real images transformed by PIL and torchvision, for the test `real_images` of the crate data-loaders.

Run: SAN_DATA=... python tools/vision_samples.py (needs pillow, numpy, torchvision; made with pillow 13.0.0 and
torchvision 0.26.0). Writes crates/data-loaders/tests/fixtures/real/: `images.txt` lists 200 images of SAN_DATA,
`samples.png` contains a row of values for each image and protocol, from which no image can be reconstructed.

With a folder as argument it instead compares pixel by pixel with the files that the test wrote there: for each protocol
`<name>.rgb`, the concatenated 224 x 224 images.
"""

import os
import sys
from pathlib import Path

import numpy
from PIL import Image
from torchvision import transforms
from torchvision.datasets.folder import default_loader

SIDE = 224
VALUES = 256
SHARES = {
    "fgvc/stanford_cars": 70,
    "vtab/caltech101": 50,
    "vtab/dtd10": 30,
    "vtab/rsscn7": 25,
    "vtab/mednist": 15,
    "vtab/cifar100": 10,
}
FIXTURES = Path(__file__).resolve().parent.parent / "crates/data-loaders/tests/fixtures/real"
MODES = transforms.InterpolationMode


def timm_eval(crop_pct, mode):
    return transforms.Compose([transforms.Resize(int(SIDE / crop_pct), mode), transforms.CenterCrop(SIDE)])


PROTOCOLS = {
    "plain_bilinear": transforms.Resize((SIDE, SIDE), MODES.BILINEAR),
    "plain_bicubic": transforms.Resize((SIDE, SIDE), MODES.BICUBIC),
    "timm_eval_bilinear": timm_eval(0.875, MODES.BILINEAR),
    "timm_eval_bicubic": timm_eval(0.9, MODES.BICUBIC),
}


def choose(root):
    """Images spaced evenly over the files of each set."""
    for folder, count in SHARES.items():
        files = sorted(path for path in (root / folder).rglob("*") if path.suffix in (".jpg", ".png"))
        for number in range(count):
            yield files[number * len(files) // count].relative_to(root).as_posix()


def transformed(root, names):
    """For each image, the values of each protocol, `[SIDE, SIDE, 3]`."""
    for name in names:
        image = default_loader(root / name)
        yield name, {label: numpy.asarray(transform(image)) for label, transform in PROTOCOLS.items()}


def write(root):
    FIXTURES.mkdir(parents=True, exist_ok=True)
    names = list(choose(root))
    rows = []
    for number, (_, images) in enumerate(transformed(root, names)):
        places = (numpy.arange(VALUES) * 7919 + number * 104729) % (3 * SIDE * SIDE)
        rows += [image.reshape(-1)[places] for image in images.values()]
    (FIXTURES / "images.txt").write_text("".join(f"{name}\n" for name in names))
    Image.fromarray(numpy.stack(rows)).save(FIXTURES / "samples.png", optimize=True)


def compare(root, folder):
    names = (FIXTURES / "images.txt").read_text().split("\n")[:-1]
    ours = {label: numpy.fromfile(folder / f"{label}.rgb", numpy.uint8) for label in PROTOCOLS}
    ours = {label: values.reshape(len(names), SIDE, SIDE, 3) for label, values in ours.items()}
    far = {label: [] for label in PROTOCOLS}
    for number, (_, images) in enumerate(transformed(root, names)):
        for label, image in images.items():
            difference = numpy.abs(image.astype(int) - ours[label][number])
            far[label].append((difference > 1).any(-1).mean())
    worst = 0.0
    for label, shares in far.items():
        share = numpy.mean(shares)
        worst = max(worst, share)
        at = int(numpy.argmax(shares))
        print(f"{label}: {share:.6%} of the pixels of {len(names)} images are more than 1/255 apart, ", end="")
        print(f"at most {shares[at]:.4%} of an image ({names[at]})")
    if worst > 0.001:
        sys.exit("more than 0.1 % of the pixels are more than 1/255 apart")


if __name__ == "__main__":
    data = Path(os.environ["SAN_DATA"]) / "vision"
    if len(sys.argv) > 1:
        compare(data, Path(sys.argv[1]))
    else:
        write(data)
