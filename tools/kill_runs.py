"""Kills a sweep at random times and resumes it until it is complete; then compares all result files byte for byte.

Run: python tools/kill_runs.py [--kills 50] [--group 2] [--seed 0] [--program target/debug/san]

The sweep: five methods on two synthetic sets, two seeds in groups, two workers, a checkpoint after every step. SIGKILL ends in
turn the supervisor process, the workers, or all of them; each worker has its own process group. Every second sweep is
slowed down where files are flushed and renamed (by a small preloaded library that sleeps there), so that kills also
hit the publication of a run and the writing of a table. Adapters and predictions of the interrupted sweep must equal
those of an uninterrupted one, and so must the tables, except for measured times and memory.
"""

import argparse
import csv
import os
import random
import shutil
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
    data: {synthetic: {train: 96, val: 24, test: 60}}
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
      batch_size: 16
      classification:
        warmup_epochs: 1
        image: {image_size: 32, resize: plain, filter: bilinear, normalisation: half}
"""
MEASURED = {"train_seconds", "evaluate_seconds", "peak_memory"}
VICTIMS = ("supervisor", "workers", "all")
PAUSE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int rename(const char *from, const char *to) {
    int (*next)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    usleep(20000);
    int result = next(from, to);
    usleep(20000);
    return result;
}
int fsync(int file) {
    int (*next)(int) = dlsym(RTLD_NEXT, "fsync");
    usleep(20000);
    return next(file);
}
"""


def pausing_library(folder):
    """Compiles the library that sleeps in renames and flushes."""
    source, library = Path(folder) / "pause.c", Path(folder) / "pause.so"
    source.write_text(PAUSE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


def start(program, folder, group, preload=None):
    command = [program, "run", "vtab.yaml", "--workers", "2", "--checkpoint-every", "0", "--group", str(group)]
    environment = {**os.environ, **({"LD_PRELOAD": preload} if preload else {})}
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )


def workers_of(sweep):
    try:
        return [int(child) for child in Path(f"/proc/{sweep.pid}/task/{sweep.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def kill(sweep, victims):
    """Kills these processes; returns their number."""
    processes = workers_of(sweep) if victims != "supervisor" else []
    processes += [sweep.pid] if victims != "workers" else []
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if victims != "workers":
        sweep.wait()
    return len(processes)


def files(folder):
    """Name and contents of adapters and predictions, and the rows of the table of runs."""
    store = folder / "results/runs/vtab/embedded"
    paths = [*store.glob("*/adapter.safetensors"), *store.glob("*/*predictions.parquet")]
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    tables = folder / "results/tables/vtab/embedded"
    for table in tables.glob("*-runs.csv"):
        rows = [{key: value for key, value in row.items() if key not in MEASURED} for row in csv.DictReader(table.open())]
        contents[table.name] = repr(rows).encode()
    return contents


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--group", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--program", type=Path, default=ROOT / "target/debug/san")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    program = options.program.resolve()
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as broken, \
            tempfile.TemporaryDirectory() as tools:
        for folder in (whole, broken):
            (Path(folder) / "vtab.yaml").write_text(EXPERIMENT)
        begun = time.monotonic()
        assert start(program, whole, options.group).wait() == 0, "the unbroken sweep failed"
        print(f"unbroken: {time.monotonic() - begun:.0f} s")
        preload = pausing_library(tools)
        killed, in_the_middle, sweeps, by_victims = 0, 0, 0, dict.fromkeys(VICTIMS, 0)
        sweep = None
        while killed < options.kills:
            if sweep is None or sweep.poll() is not None:
                # A sweep that finished before it was killed is started again without its last runs.
                if sweep is not None and sweep.returncode == 0:
                    for run in list(Path(broken).glob("results/runs/vtab/embedded/*/record.json"))[:6]:
                        shutil.rmtree(run.parent)
                sweeps += 1
                sweep = start(program, broken, options.group, preload if sweeps % 2 else None)
            time.sleep(moments.uniform(0.1, 2.6))
            victims = VICTIMS[killed % len(VICTIMS)]
            if sweep.poll() is None and kill(sweep, victims):
                killed += 1
                by_victims[victims] += 1
                in_the_middle += any(Path(broken).glob("results/runs/vtab/embedded/.checkpoints/*.safetensors"))
        kill(sweep, "all")
        assert start(program, broken, options.group).wait() == 0, "the broken sweep did not come to its end"
        expected, found = files(Path(whole)), files(Path(broken))
        print(f"{killed} kills ({by_victims}), {in_the_middle} with a run in its middle; {len(expected)} files compared")
        assert expected.keys() == found.keys(), sorted(expected.keys() ^ found.keys())
        different = [name for name in expected if expected[name] != found[name]]
        assert not different, different
        print("all equal")


if __name__ == "__main__":
    sys.exit(main())
