"""Images per second from files to normalised batches: this project compared with a torchvision/PIL DataLoader in one
run.

Run: python tools/throughput.py <stanford_cars folder> [--images 1024] [--threads 2] [--rounds 3]
(needs torch, torchvision, pillow; build ours first: cargo build --release -p data-loaders --example throughput).

Both decode JPEG, resize to 224 x 224 (bilinear, antialiased), scale, subtract ImageNet's statistics and make batches of
64 from the same files; torchvision uses as many single-threaded worker processes as ours has threads. Rounds
alternate; the best of each is compared, because other work on the machine can only slow a round down. The workers are
started by a warm-up epoch that is not timed.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

ROOT = Path(__file__).resolve().parent.parent
BATCH = 64


class Images(Dataset):
    def __init__(self, paths):
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((224, 224)),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(default_loader(self.paths[index]))


def torchvision_rate(paths, threads):
    """Images per second, after the workers have started."""
    torch.set_num_threads(1)
    loader = DataLoader(Images(paths), BATCH, num_workers=threads, persistent_workers=True, multiprocessing_context="fork")
    for _ in loader:  # starts the workers
        pass
    start = time.perf_counter()
    read = sum(len(batch) for batch in loader)
    seconds = time.perf_counter() - start
    del loader
    return read / seconds


def our_rate(program, root, images, threads):
    command = [program, root, str(images), str(threads)]
    read, seconds, _ = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(read) == images, f"{read} of {images} images were read"
    return int(read) / float(seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=ROOT / "target/release/examples/throughput")
    options = parser.parse_args()
    # The order of our set: the training lists, then the validation lists.
    names = [name for part in ("train", "val") for name in json.loads((options.folder / f"{part}.json").read_text())]
    paths = [options.folder / name for name in names[: options.images]]
    for path in paths:  # into the page cache
        path.read_bytes()
    ours, theirs = [], []
    for number in range(options.rounds):
        ours.append(our_rate(options.program, options.folder.parent, len(paths), options.threads))
        theirs.append(torchvision_rate(paths, options.threads))
        print(f"round {number + 1}: ours {ours[-1]:.0f}, torchvision {theirs[-1]:.0f} images per second")
    print(
        f"best of {options.rounds}: ours {max(ours):.0f}, torchvision {max(theirs):.0f} images per second with "
        f"{options.threads} threads each: ratio {max(ours) / max(theirs):.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
