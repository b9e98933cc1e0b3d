"""``.bin`` files that people have, and those that are no verification set."""

import contextlib
import pickle

import numpy as np
import pytest

from marginbench.data.files.content import content_key
from marginbench.data.formats.images import Preprocessing
from marginbench.data.formats.verification_bins import read_bin, verification_bin
from marginbench.errors import UserError
from tests.data.pickle_files import (
    SAME,
    encoded,
    python_2_row,
    python_2_text,
)

PREPROCESSING = Preprocessing(8, "rgb")


def arrays(columns):
    shape = (-1, 1) if columns else (-1,)
    return [np.frombuffer(image, dtype=np.uint8).reshape(shape).copy() for image in encoded()]


@pytest.mark.parametrize("protocol", range(1, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("images", ["bytes", "arrays", "columns"])
@pytest.mark.parametrize("pack", [tuple, list])
def test_what_python_3_writes_is_read(tmp_path, protocol, images, pack):
    value = encoded() if images == "bytes" else arrays(images == "columns")
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps(pack((value, SAME)), protocol=protocol))
    found = read_bin(path)
    assert found.images == encoded()
    assert found.same == SAME


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", [bool, np.bool_, int, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("pack", [list, tuple, np.array])
def test_answers_are_read_as_the_common_recipes_write_them(tmp_path, protocol, kind, pack):
    path = tmp_path / "lfw.bin"
    content = pickle.dumps((encoded(), pack([kind(same) for same in SAME])), protocol=protocol)
    for core in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        # The length of a short text stands before it.
        changed = content.replace(b"numpy._core.multiarray", core) if protocol == 2 else content
        path.write_bytes(changed)
        found = read_bin(path).same
        assert found == SAME
        assert all(type(answer) is bool for answer in found)


def test_names_of_numpy_1_are_read_too(tmp_path):
    path = tmp_path / "lfw.bin"
    content = pickle.dumps((arrays(False), SAME), protocol=2)
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_bin(path).images == encoded()


@pytest.mark.parametrize("write", [python_2_text, python_2_row])
@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_what_python_2_wrote_is_read(tmp_path, write, kind):
    images = encoded(kind=kind)
    answers = b"".join(b"\x88" if same else b"\x89" for same in SAME)
    body = b"(]q\x01(" + b"".join(map(write, images)) + b"e]q\x02(" + answers + b"etq\x03."
    path = tmp_path / "cfp_fp.bin"
    path.write_bytes(b"\x80\x02" + body)
    if write is python_2_row:
        expected = pickle.loads(path.read_bytes(), encoding="latin1")
        assert [bytes(image) for image in expected[0]] == images
    else:
        assert pickle.loads(path.read_bytes(), encoding="bytes") == (images, SAME)
    assert read_bin(path).images == images
    assert read_bin(path).same == SAME


def test_a_set_is_verified_in_ten_folds_of_consecutive_pairs(tmp_path):
    path = tmp_path / "agedb_30.bin"
    path.write_bytes(pickle.dumps((encoded(), SAME)))
    pairs = verification_bin(path, content_key(path), PREPROCESSING)
    assert pairs.name == "agedb_30"
    assert pairs.images.shape == (24, 3, 8, 8)
    assert pairs.images[:, 0, 0, 0].tolist() == list(range(24))
    assert pairs.first.tolist() == list(range(0, 24, 2))
    assert pairs.second.tolist() == list(range(1, 24, 2))
    assert pairs.same.tolist() == SAME
    # As sklearn's KFold without shuffling: the first folds have the pairs left over.
    assert pairs.fold.tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert (pairs.tested_folds, pairs.people, pairs.image_names) == (None, None, ())


def test_one_array_named_again_and_again_is_one_in_memory(tmp_path):
    image = np.frombuffer(encoded(1)[0], dtype=np.uint8)
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps(([image] * 24, SAME)))
    images = read_bin(path).images
    assert images[0] == image.tobytes()
    assert all(other is images[0] for other in images)


def test_one_image_named_again_and_again_is_refused(tmp_path):
    path = tmp_path / "lfw.bin"
    image = encoded(1)[0]
    first = b"\x80\x04](C" + bytes([len(image)]) + image + b"\x94"
    count = 200_001
    path.write_bytes(first[:-1] + b"\x94" + b"h\x00" * count + b"e]\x86.")
    with pytest.raises(UserError, match=r"names 200002 images; allowed: up to 200000"):
        read_bin(path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([encoded()], "is no verification set; allowed: two lists"),
        ((encoded(), 5), "is no verification set"),
        ((encoded()[:-1], SAME), "23 images and 12 pairs"),
        (
            (encoded(), [True, *[2] * 11]),
            "11 answers are wrong, the first of them answer 1, of type int",
        ),
        (
            (encoded(), [1.0] * 12),
            "12 answers are wrong, the first of them answer 0, of type float",
        ),
        ((["x"] * 24, SAME), "image 0 is of type str"),
        (([*encoded()[:-1], []], SAME), "image 23 is of type list"),
        (([np.zeros((2, 3), np.uint8)], SAME), r"image 0 is of type array of the shape \(2, 3\)"),
        ({"images": encoded(), "same": SAME}, "is no verification set"),
        ((encoded()[:18], SAME[:9]), "has 9 pairs; allowed: 10 or more"),
    ],
)
def test_other_values_are_no_verification_set(tmp_path, value, words):
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(UserError, match=words):
        read_bin(path)


def test_files_and_images_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "lfw.bin"
    with pytest.raises(UserError, match=r"lfw.bin' cannot be read: No such file"):
        read_bin(path)
    images = encoded()
    images[5] = images[5][:40]
    path.write_bytes(pickle.dumps((images, SAME)))
    with pytest.raises(UserError, match=r"lfw.bin': image 5 cannot be decoded"):
        verification_bin(path, content_key(path), PREPROCESSING)
    path.write_bytes(pickle.dumps((encoded(), SAME))[:-200])
    with pytest.raises(UserError, match=r"lfw.bin' is refused: it holds"):
        read_bin(path)


def test_a_file_that_has_changed_is_refused(tmp_path):
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((encoded(), SAME)))
    content = content_key(path)
    path.write_bytes(pickle.dumps((encoded()[::-1], SAME)))
    with pytest.raises(UserError, match="the files have changed since"):
        verification_bin(path, content, PREPROCESSING)


def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path):
    """Bytes changed at random: an error of ours or a value, never another exception."""
    random = np.random.default_rng(0)
    path = tmp_path / "lfw.bin"
    small = [image[:20] for image in encoded()]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps((small, SAME), protocol=protocol)
        for _ in range(100):
            damaged = bytearray(content)
            for position in random.integers(0, len(content), 3):
                damaged[position] = random.integers(0, 256)
            path.write_bytes(damaged)
            with contextlib.suppress(UserError):
                read_bin(path)
