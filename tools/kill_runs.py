"""Kills a sweep at random moments and goes on, until it is done; then compares every file that counts, byte for byte.

Run: python tools/kill_runs.py [--kills 50] [--seed 0] [--program target/debug/san]

The sweep: five methods on two drawn sets, two seeds, two workers, a checkpoint after every step. The program and its
workers are one process group, and the group is killed with SIGKILL. Adapters and predictions of the broken sweep must
be those of one that ran through, and so must the tables, but for what a clock or a memory meter measured.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = """
name: vtab
suite: vtab
profiles:
  embedded:
    data: {drawn: {train: 96, val: 24, test: 60}}
    sets: [patch_camelyon, svhn]
    backbones: [vit_micro]
    methods:
      - {method: fft, learning_rate: 1.0e-3}
      - {method: lora, learning_rate: 1.0e-2}
      - {method: dora, learning_rate: 1.0e-2}
      - {method: san, learning_rate: 1.0e-2}
      - {method: ssf, learning_rate: 1.0e-2}
    seeds: [0, 1]
    protocol:
      epochs: 40
      warmup_epochs: 1
      batch_size: 16
      image: {image_size: 32, resize: plain, filter: bilinear, normalisation: half}
"""
MEASURED = {"train_seconds", "evaluate_seconds", "peak_memory"}


def start(program, folder):
    command = [program, "run", "vtab.yaml", "--workers", "2", "--checkpoint-every", "0"]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def files(folder):
    """Name and contents of adapters and predictions, and the rows of the table of cells."""
    store = folder / "results/runs/vtab/embedded"
    paths = [*store.glob("*/adapter.safetensors"), *store.glob("*/*predictions.parquet")]
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    tables = folder / "results/tables/vtab/embedded"
    for table in tables.glob("*-cells.csv"):
        rows = [{key: value for key, value in row.items() if key not in MEASURED} for row in csv.DictReader(table.open())]
        contents[table.name] = repr(rows).encode()
    return contents


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--program", type=Path, default=ROOT / "target/debug/san")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    program = options.program.resolve()
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as broken:
        for folder in (whole, broken):
            (Path(folder) / "vtab.yaml").write_text(EXPERIMENT)
        begun = time.monotonic()
        assert start(program, whole).wait() == 0, "the unbroken sweep failed"
        print(f"unbroken: {time.monotonic() - begun:.0f} s")
        killed = in_the_middle = 0
        while killed < options.kills:
            sweep = start(program, broken)
            time.sleep(moments.uniform(0.2, 2.6))
            if sweep.poll() is not None:
                break
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.wait()
            killed += 1
            in_the_middle += any(Path(broken).glob("results/runs/vtab/embedded/.checkpoints/*.safetensors"))
        assert start(program, broken).wait() == 0, "the broken sweep did not come to its end"
        expected, found = files(Path(whole)), files(Path(broken))
        print(f"{killed} kills, {in_the_middle} of them with a cell in its middle; {len(expected)} files compared")
        assert killed == options.kills, "the sweep was done before it was killed so often"
        assert expected.keys() == found.keys(), sorted(expected.keys() ^ found.keys())
        different = [name for name in expected if expected[name] != found[name]]
        assert not different, different
        print("all equal")


if __name__ == "__main__":
    sys.exit(main())
