"""Writes tiny copies of the vision sets in the format that their authors distribute, for tests/originals.rs of the
crate `data-loaders`: containers are written by the libraries that their authors used (scipy, h5py, numpy, pickle) or
that the Hugging Face Hub uses (pyarrow) or, for TensorFlow's records, by the package tfrecord (which writes messages with
google.protobuf and checksums with crc32c), never by this project.

    python tools/original_fixtures.py      # rewrites crates/data-loaders/tests/fixtures/originals/

Each folder has the layout of the unpacked archives of a set, and `expected.json` next to them contains the expected
result: for every image its split, its label by the definitions of VTAB, and the SHA-256 of its RGB bytes, row by row.
Images in JPEG files have a single colour, which is their expected value instead, since decoders differ by one level.
"""

import hashlib
import io
import json
import pathlib
import pickle
import shutil

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import scipy.io
import tfrecord
from PIL import Image

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "crates/data-loaders/tests/fixtures/originals"


def pattern(seed, height, width, channels):
    """A smooth pattern unique to its seed, so that files stay small and a wrong order of axes is detected."""
    y, x, c = np.mgrid[:height, :width, :channels]
    return ((3 * y + 5 * x + 11 * c + 17 * seed + (seed * x) // 7) % 256).astype(np.uint8)


def rgb(image):
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def entry(part, label, image):
    content = hashlib.sha256(np.ascontiguousarray(rgb(image)).tobytes()).hexdigest()
    return {"part": part, "label": int(label), "sha256": content}


def grey(level):
    return (level % 25) * 10


def jpeg(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey(level),) * 3).save(path, quality=95)


def colour(part, label, level):
    return {"part": part, "label": int(label), "grey": grey(level)}


class Python2Pickler(pickle._Pickler):
    """Writes byte strings as Python 2 did, which wrote the pickles of CIFAR's batches."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        short = len(value) < 256
        self.write(pickle.SHORT_BINSTRING + bytes([len(value)]) if short else pickle.BINSTRING + len(value).to_bytes(4, "little"))
        self.write(value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def cifar(folder, counts=(("train", 6), ("test", 4))):
    expected, seed = [], 0
    for part, count in counts:
        images = [pattern(seed + i, 32, 32, 3) for i in range(count)]
        fine = [(37 * (seed + i) + 5) % 100 for i in range(count)]
        expected += [entry(part, label, image) for label, image in zip(fine, images)]
        seed += count
        planar = np.stack([image.transpose(2, 0, 1).reshape(-1) for image in images])
        coarse = [label // 5 for label in fine]
        binary = folder / "cifar_binary/cifar-100-binary"
        binary.mkdir(parents=True, exist_ok=True)
        records = [bytes([c, f]) + row.tobytes() for c, f, row in zip(coarse, fine, planar)]
        (binary / f"{part}.bin").write_bytes(b"".join(records))
        batch = {
            b"filenames": [f"image_{i}.png".encode() for i in range(count)],
            b"batch_label": b"testing batch 1 of 1",
            b"fine_labels": fine,
            b"coarse_labels": coarse,
            b"data": planar,
        }
        python = folder / "cifar_python/cifar-100-python"
        python.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        Python2Pickler(stream, protocol=2).dump(batch)
        (python / part).write_bytes(stream.getvalue())
        (python / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"apple"]}, protocol=2))
    return {"cifar_binary": expected, "cifar_python": expected}


def svhn(folder):
    folder.mkdir()
    expected, seed = [], 20
    for part, digits, compressed in (("train", [10, 1, 9, 4, 10], True), ("test", [3, 10, 7], False)):
        images = [pattern(seed + i, 32, 32, 3) for i in range(len(digits))]
        seed += len(digits)
        variables = {"X": np.stack(images, axis=3), "y": np.array(digits, np.uint8)[:, None]}
        savemat(folder / f"{part}_32x32.mat", variables, do_compression=compressed)
        expected += [entry(part, digit % 10, image) for digit, image in zip(digits, images)]
    return expected


def flowers(folder):
    folder.mkdir()
    labels = np.array([[5, 102, 1, 33, 5, 77, 2, 102]], np.uint8)
    parts = {"trnid": [8, 2, 5], "valid": [1, 4], "tstid": [3, 6, 7]}
    savemat(folder / "imagelabels.mat", {"labels": labels}, do_compression=True)
    savemat(folder / "setid.mat", {k: np.array([v], np.uint16) for k, v in parts.items()}, do_compression=True)
    names = {"trnid": "train", "valid": "val", "tstid": "test"}
    for number in range(1, 9):
        jpeg(folder / f"jpg/image_{number:05}.jpg", number)
    return [colour(names[part], labels[0, n - 1] - 1, n) for part, numbers in parts.items() for n in numbers]


def savemat(path, variables, **options):
    """scipy's savemat without the date in the header, so that regenerating the fixtures changes nothing."""
    scipy.io.savemat(path, variables, **options)
    text = b"MATLAB 5.0 MAT-file, written by scipy for a test".ljust(116)
    path.write_bytes(text + path.read_bytes()[116:])


def cells(texts):
    array = np.empty((len(texts), 1), object)
    array[:, 0] = texts
    return array


def stanford_dogs(folder):
    folder.mkdir()
    expected, level = [], 0
    for part, labels in (("train", [1, 120, 7, 1, 60, 9, 9, 2, 3, 4]), ("test", [120, 1, 13])):
        paths = []
        for label in labels:
            level += 1
            paths.append(f"n{label:08}-Dog_{label}/n{label:08}_{level}.jpg")
            jpeg(folder / "Images" / paths[-1], level)
            expected.append(colour(part, label - 1, level))
        lists = {"file_list": cells(paths), "annotation_list": cells(paths), "labels": np.array(labels, np.uint8)[:, None]}
        savemat(folder / f"{part}_list.mat", lists)
    return expected


def stanford_cars(folder):
    (folder / "devkit").mkdir(parents=True)
    expected = []
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    for part, file, labels in (
        ("train", "devkit/cars_train_annos.mat", [196, 1, 14, 14, 3, 91, 120, 5, 6, 7]),
        ("test", "cars_test_annos_withlabels.mat", [2, 196, 181]),
    ):
        annotations = np.empty((1, len(labels)), [(field, object) for field in fields])
        for i, label in enumerate(labels):
            level = i + (0 if part == "train" else 12)
            boxes = tuple(np.array([[v]], np.uint16) for v in (39, 116, 569, 375))
            annotations[0, i] = (*boxes, np.array([[label]], np.uint8), f"{i + 1:05}.jpg")
            jpeg(folder / f"cars_{part}/{i + 1:05}.jpg", level)
            expected.append(colour(part, label - 1, level))
        savemat(folder / file, {"annotations": annotations}, do_compression=True)
    return expected


def dsprites(folder):
    """Every 16th x position and every 5th orientation of one shape, in the full archive's order."""
    folder.mkdir()
    factors = [(0, 0, 5, o, x, 9) for o in range(0, 40, 5) for x in range(0, 32, 4)]
    images = np.stack([(pattern(i, 64, 64, 1)[..., 0] > 127) for i in range(len(factors))]).astype(np.uint8)
    classes = np.array(factors, np.int64)
    metadata = np.array({"title": "dSprites dataset"}, object)
    np.savez_compressed(
        folder / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        metadata=metadata, imgs=images, latents_classes=classes, latents_values=classes.astype(np.float64),
    )
    def expect(label):
        return [entry("train", label(f), image[..., None] * 255) for f, image in zip(factors, images)]
    return expect(lambda f: f[4] // 2), expect(lambda f: int(f[3] // 2.5))


def norb_matrix(path, array, magic):
    sizes = list(array.shape) + [1] * (3 - array.ndim)
    header = np.array([magic, array.ndim, *sizes], "<i4").tobytes()
    path.write_bytes(header + np.ascontiguousarray(array).tobytes())


def small_norb(folder):
    folder.mkdir()
    azimuth, elevation, seed = [], [], 0
    for part, name, count in (("train", "smallnorb-5x46789x9x18x6x2x96x96-training", 10), ("test", "smallnorb-5x01235x9x18x6x2x96x96-testing", 8)):
        pairs = np.stack([np.stack([pattern(seed + 2 * i + eye, 24, 24, 1)[..., 0] for eye in range(2)]) for i in range(count)])
        info = np.array([[i % 10, (4 * i) % 9, 2 * ((7 * i) % 18), i % 6] for i in range(count)], "<i4")
        norb_matrix(folder / f"{name}-dat.mat", pairs, 0x1E3D4C55)
        norb_matrix(folder / f"{name}-cat.mat", np.array([i % 5 for i in range(count)], "<i4"), 0x1E3D4C54)
        norb_matrix(folder / f"{name}-info.mat", info, 0x1E3D4C54)
        seed += 2 * count
        for pair, (_, e, a, _) in zip(pairs, info):
            azimuth.append(entry(part, a // 2, pair[0][..., None]))
            elevation.append(entry(part, e, pair[0][..., None]))
    return azimuth, elevation


def patch_camelyon(folder):
    folder.mkdir()
    expected, seed = [], 40
    for part, name, labels in (("train", "train", [1, 0, 0, 1, 1]), ("val", "valid", [0, 1]), ("test", "test", [1, 1, 0])):
        images = np.stack([pattern(seed + i, 96, 96, 3) for i in range(len(labels))])
        seed += len(labels)
        with h5py.File(folder / f"camelyonpatch_level_2_split_{name}_x.h5", "w") as file:
            chunks = (2, 48, 96, 3) if part == "train" else (1, 96, 96, 3)
            file.create_dataset("x", data=images, chunks=chunks, compression="gzip", shuffle=part == "val")
        with h5py.File(folder / f"camelyonpatch_level_2_split_{name}_y.h5", "w") as file:
            file.create_dataset("y", data=np.array(labels, np.uint8).reshape(-1, 1, 1, 1), compression="gzip")
        expected += [entry(part, label, image) for label, image in zip(labels, images)]
    return expected


def tables(folder):
    """An image set in the format of the Hub, in two shards, with the column names of its CIFAR-100."""
    (folder / "data").mkdir(parents=True)
    expected, seed = [], 60
    for shard, labels in (("train-00000-of-00002", [7, 99, 3]), ("train-00001-of-00002", [0, 1, 7]), ("test-00000-of-00001", [5, 99])):
        rows = []
        for label in labels:
            image = pattern(seed, 20, 20, 3)
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            rows.append({"img": {"bytes": stream.getvalue(), "path": None}, "fine_label": label, "coarse_label": label // 5})
            expected.append(entry(shard.split("-")[0], label, image))
            seed += 1
        column = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        schema = pyarrow.schema([("img", column), ("fine_label", pyarrow.int64()), ("coarse_label", pyarrow.int64())])
        table = pyarrow.Table.from_pylist(rows, schema)
        pyarrow.parquet.write_table(table, folder / f"data/{shard}.parquet", row_group_size=2)
    return expected


def encoded(image, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return stream.getvalue()


def dmlab(folder):
    """Three parts, train in two files; JPEG as distributed, and PNG."""
    folder.mkdir()
    expected, seed = [], 80
    for file, part, labels in (
        ("dmlab-train.tfrecord-00000-of-00002", "train", [0, 5, 3]),
        ("dmlab-train.tfrecord-00001-of-00002", "train", [2, 2]),
        ("dmlab-validation.tfrecord-00000-of-00001", "val", [4, 1]),
        ("dmlab-test.tfrecord-00000-of-00001", "test", [1, 0, 5]),
    ):
        writer = tfrecord.TFRecordWriter(str(folder / file))
        for index, label in enumerate(labels):
            if index == 0:
                level = seed % 25
                image = encoded(np.full((20, 20, 3), grey(level), np.uint8), "JPEG")
                expected.append(colour(part, label, level))
            else:
                pixels = pattern(seed, 20, 20, 3)
                image = encoded(pixels)
                expected.append(entry(part, label, pixels))
            name = f"{part}/{seed:06}.jpg".encode()
            writer.write({"image": (image, "byte"), "filename": (name, "byte"), "label": (label, "int")})
            seed += 1
        writer.close()
    return expected


def hub_tables(folder, splits, columns):
    """A set of TensorFlow Datasets as the Hub has it: `splits` are (split, rows per shard), `columns` are functions of
    the number of a row. Returns the rows of each split, in order."""
    (folder / "data").mkdir(parents=True)
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    fields = [("image", image), *((name, pyarrow.int64()) for name in columns)]
    rows, seed = {}, 0
    for split, shards in splits:
        rows[split] = []
        for shard, count in enumerate(shards):
            table = []
            for _ in range(count):
                pixels = pattern(100 + seed, 20, 20, 3)
                labels = {name: label(seed) for name, label in columns.items()}
                table.append({"image": {"bytes": encoded(pixels), "path": f"{seed}.png"}, **labels})
                rows[split].append((pixels, labels))
                seed += 1
            path = folder / f"data/{split}-{shard:05}-of-{len(shards):05}.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, pyarrow.schema(fields)), path, row_group_size=3)
    return rows


def hub(folder):
    """Three kinds of parts: test is another split (CLEVR), test is the second half of a split (Small NORB), and there is
    only one split (EuroSAT). Val has a fifth of the rows of train in these tiny copies, as 200 of 1,000."""
    clevr = {"label_count": lambda i: i % 8, "label_distance": lambda i: (5 * i) % 6}
    norb = {"label_azimuth": lambda i: (7 * i) % 18, "label_elevation": lambda i: (4 * i) % 9}
    rows = hub_tables(folder / "hub_clevr", [("train", [6, 4]), ("validation", [4]), ("test", [2])], clevr)
    parts = {"train": rows["train"][:8], "val": rows["train"][8:], "test": rows["validation"]}
    expected = {f"hub_clevr_{name[6:]}": listed(parts, name) for name in clevr}
    rows = hub_tables(folder / "hub_smallnorb", [("train", [10]), ("test", [4, 4])], norb)
    parts = {"train": rows["train"], "val": rows["test"][:4], "test": rows["test"][4:]}
    expected.update({f"hub_smallnorb_{name[6:]}": listed(parts, name) for name in norb})
    rows = hub_tables(folder / "hub_eurosat", [("train", [10])], {"label": lambda i: (3 * i) % 10})
    parts = {"train": rows["train"][:6], "val": rows["train"][6:8], "test": rows["train"][8:]}
    return {**expected, "hub_eurosat": listed(parts, "label")}


def listed(parts, label):
    return [entry(part, labels[label], pixels) for part, rows in parts.items() for pixels, labels in rows]


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    expected = cifar(FOLDER)
    for make in (svhn, flowers, stanford_dogs, stanford_cars, patch_camelyon, tables, dmlab):
        expected[make.__name__] = make(FOLDER / make.__name__)
    expected["dsprites_location"], expected["dsprites_orientation"] = dsprites(FOLDER / "dsprites")
    expected["smallnorb_azimuth"], expected["smallnorb_elevation"] = small_norb(FOLDER / "smallnorb")
    expected.update(hub(FOLDER))
    text = json.dumps(expected, indent=0, sort_keys=True)
    (FOLDER / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
