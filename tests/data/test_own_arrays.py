"""A user's npz file, and every one that is not right."""

import contextlib
import struct
import tracemalloc
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from marginbench.data import load_data
from marginbench.data.formats.array_files import read_array_file, read_training_arrays
from marginbench.errors import UserError


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "x_train": random.integers(0, 256, (12, 6, 5), dtype=np.uint8),
        "y_train": np.tile([0, 1, 2], 4),
        "x_test": random.integers(0, 256, (6, 6, 5), dtype=np.uint8),
        "y_test": np.tile([0, 1, 2], 2),
    }


def test_an_npz_in_either_layout_grey_or_colour(root, arrays):
    np.savez(root / "keras.npz", **arrays)
    grey = load_data("npz", {"name": "keras.npz"})
    assert grey.image_shape == (1, 6, 5)
    assert np.array_equal(grey.train_images[:, 0], arrays["x_train"])
    medmnist = {
        "train_images": np.stack([arrays["x_train"]] * 3, axis=3),
        "train_labels": arrays["y_train"][:, None],
        "test_images": np.stack([arrays["x_test"]] * 3, axis=3),
        "test_labels": arrays["y_test"][:, None],
        "val_images": np.zeros(3),
        "remarks": np.array([None]),
    }
    np.savez(root / "med.npz", **medmnist)
    colour = load_data("npz", {"name": "med.npz"})
    assert colour.image_shape == (3, 6, 5)
    assert torch.equal(colour.test_images[:, 1:2], grey.test_images)
    assert torch.equal(colour.test_labels, grey.test_labels)
    assert load_data("npz", {"name": "med.npz", "size": 10}).image_shape == (3, 10, 10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_train": np.array([None] * 12)}, ["arrays of objects are not allowed"]),
        ({"x_train": np.zeros((12, 6, 5))}, ["x_train is float64", "uint8 (N, H, W)"]),
        ({"x_test": np.zeros((6, 6, 5, 4), np.uint8)}, ["x_test", "(6, 6, 5, 4)"]),
        ({"y_train": np.full(12, 0.5)}, ["y_train is float64", "whole numbers"]),
        ({"y_train": np.tile([0, 1], 6)}, ["class '2' has no training image"]),
        ({"y_train": np.zeros(11, int)}, ["12 training images and 11 labels"]),
        ({"y_test": np.full(6, -1)}, ["test label -1 is not allowed; allowed: 0 to 2"]),
        ({"x_test": np.zeros((6, 7, 5), np.uint8)}, ["(1, 7, 5)", "must agree"]),
        ({"x_train": np.zeros((0, 6, 5), np.uint8), "y_train": np.zeros(0, int)}, ["no training"]),
    ],
)
def test_wrong_arrays_are_refused(root, arrays, change, words):
    np.savez(root / "x.npz", **(arrays | change))
    with pytest.raises(UserError) as refusal:
        load_data("npz", {"name": "x.npz"})
    for word in words:
        assert word in str(refusal.value)


def test_files_that_are_no_such_npz_are_refused(root, arrays):
    np.savez(root / "x.npz", x_train=arrays["x_train"])
    with pytest.raises(UserError, match="holds x_train; allowed: x_train, y_train"):
        load_data("npz", {"name": "x.npz"})
    content = (root / "x.npz").read_bytes()
    (root / "y.npz").write_bytes(content[:100])
    with pytest.raises(UserError, match=r"y.npz' (is damaged|cannot be read)"):
        load_data("npz", {"name": "y.npz"})
    (root / "z.npz").write_bytes(b"no npz at all")
    with pytest.raises(UserError, match=r"z.npz' (is damaged|cannot be read)"):
        load_data("npz", {"name": "z.npz"})


def header(text, version=b"\x01\x00"):
    """The beginning of an .npy file with that header."""
    text = text.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


def claim(dtype, shape):
    return header(f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}")


def write_parts(path, parts, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)


def replace_first(content, old, new):
    """Both headers of the archive's first part changed, as in the file and in its list."""
    for signature, offset in ((b"PK\x03\x04", old), (b"PK\x01\x02", old + 2)):
        position = content.index(signature) + offset
        content = content[:position] + new + content[position + len(new) :]
    return content


HEADERS = {
    "no text": b"\x93NUMPY\x01\x00\x05\x00\xff\xff\xff\xff\xff",
    "no end": b"\x93NUMPY\x01\x00\xff\xff{",
    "no magic": b"numpy",
    "nothing": b"",
    "a list": header("[]"),
    "a bracket": header("{'descr': ("),
    "a call": header("exit()"),
    "a nested one": header("(" * 9000),
    "another version": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "objects": claim("|O", (12,)) + bytes(96),
    "a type that is none": claim("q9z", (12,)),
    "fields": claim([("a", "|u1")], (360,)) + bytes(360),
    "many dimensions": claim("|u1", (1,) * 2000) + bytes(1),
    "a length below 0": claim("|u1", (-1, 0, 5)),
    "a length that is none": claim("|u1", ("x",)),
    "petabytes": claim("|u1", (2**50, 6, 5)),
    "another number of bytes": claim("|u1", (12, 6, 5)) + bytes(359),
    "beyond all numbers": claim("|u1", (2**62, 2**62, 2**62)),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("array", ["x_train", "classes"])
def test_arrays_with_damaged_headers_are_refused(root, arrays, name, array):
    np.savez(root / "x.npz", **arrays)
    with zipfile.ZipFile(root / "x.npz") as archive:
        parts = {n.removesuffix(".npy"): archive.read(n) for n in archive.namelist()}
    write_parts(root / "x.npz", parts | {array: HEADERS[name]})
    with pytest.raises(UserError, match=rf"x.npz' cannot be read: .*'{array}") as refusal:
        read_array_file(root / "x.npz")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    ("offset", "new", "words"),
    [
        (6, b"\x01\x00", "x_train.npy' is encrypted"),
        (8, b"\x0c\x00", "compressed by method 12"),
        (8, b"\x63\x00", "compressed by method 99"),
        (22, b"\xff\xff\xff\x7f", "claims to unpack .* bytes to 2,147,483,647"),
        (18, b"\xff\xff\xff\x7f", "claim more than the file's"),
        (14, b"\x00\x00\x00\x00", "Bad CRC-32"),
    ],
)
def test_parts_that_cannot_be_unpacked_are_refused(root, arrays, offset, new, words):
    np.savez_compressed(root / "x.npz", **arrays)
    content = (root / "x.npz").read_bytes()
    (root / "x.npz").write_bytes(replace_first(content, offset, new))
    with pytest.raises(UserError, match=rf"x.npz' cannot be read: .*{words}"):
        read_array_file(root / "x.npz")


def test_a_single_array_is_no_npz_file(root, arrays):
    with (root / "x.npz").open("wb") as file:
        np.save(file, arrays["x_train"])
    with pytest.raises(UserError, match=r"x.npz' cannot be read: it is no whole zip archive"):
        read_array_file(root / "x.npz")


def test_bytes_changed_at_random_are_refused_or_read(root, arrays):
    random = np.random.default_rng(0)
    for save in (np.savez, np.savez_compressed):
        save(root / "x.npz", **arrays)
        content = (root / "x.npz").read_bytes()
        for _ in range(150):
            damaged = bytearray(content)
            for position in random.integers(0, len(content), 3):
                damaged[position] = random.integers(0, 256)
            (root / "x.npz").write_bytes(damaged)
            with contextlib.suppress(UserError):
                read_array_file(root / "x.npz")


HUGE = 48_000_000
LARGE = {
    "images of another type": ({"x_train": ("<f8", (12, HUGE // 96, 1))}, "x_train is float64"),
    "labels without images": ({"y_train": ("|u1", (HUGE,))}, "12 training images and 4"),
    "labels of another shape": ({"y_train": ("|u1", (12, HUGE // 12))}, "y_train is uint8"),
    "an array that is not asked for": ({"other": ("|u1", (HUGE,))}, None),
    "more than there is memory": ({"x_train": ("|u1", (12, HUGE // 12, 1))}, "bytes, and this"),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_arrays_are_refused_before_they_are_unpacked(root, arrays, name, monkeypatch):
    large, words = LARGE[name]
    ((array, (dtype, shape)),) = large.items()
    np.savez(root / "x.npz", **arrays)
    with zipfile.ZipFile(root / "x.npz") as archive:
        parts = {n.removesuffix(".npy"): archive.read(n) for n in archive.namelist()}
    content = claim(dtype, shape)
    write_parts(root / "x.npz", parts | {array: content + bytes(HUGE)})
    assert (root / "x.npz").stat().st_size < 1_000_000
    machine = SimpleNamespace(total=HUGE // 2)
    monkeypatch.setattr("marginbench.data.formats.archives.psutil.virtual_memory", lambda: machine)
    tracemalloc.start()
    try:
        if words is None:
            assert len(read_array_file(root / "x.npz").train_images) == 12
        else:
            with pytest.raises(UserError, match=words):
                read_array_file(root / "x.npz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < HUGE / 20


@pytest.mark.parametrize("labels", ["y_train", "y_test"])
def test_a_label_beyond_the_images_names_no_classes(root, arrays, labels):
    changed = arrays[labels].astype(np.int64)
    changed[0] = 2**62
    np.savez(root / "x.npz", **(arrays | {labels: changed}))
    with pytest.raises(UserError, match=r"has the label 4611686018427387904 among 18 images"):
        read_array_file(root / "x.npz")
    if labels == "y_train":
        with pytest.raises(UserError, match=r"label 4611686018427387904 among 12 images"):
            read_training_arrays(root / "x.npz")


def test_names_without_text_are_refused(root, arrays):
    np.savez(root / "x.npz", **arrays)
    with zipfile.ZipFile(root / "x.npz", "a") as archive:
        archive.writestr("classes.npy", claim("<U0", (2**40,)))
    with pytest.raises(UserError, match=r"classes is <U0 .*: names without text"):
        read_array_file(root / "x.npz")
