"""Decoded images on disk: mapped, made once, and made again where something is wrong."""

import fcntl

import numpy as np
import pytest

from marginbench.data.files import array_cache
from marginbench.data.files.array_cache import cached_array, decoded_images

VALUES = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)


class Maker:
    """Counts how often the array is made."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return iter([VALUES[:4], VALUES[4:]])

    def array(self, what=1):
        return cached_array({"what": what}, VALUES.shape, np.uint8, self)


@pytest.fixture
def decoded(tmp_path):
    return tmp_path / "cache" / "decoded"


def test_it_is_made_once_and_writing_to_it_changes_no_file(decoded):
    maker = Maker()
    array = maker.array()
    assert np.array_equal(array, VALUES)
    array[0] = 99
    assert np.array_equal(maker.array(), VALUES)
    assert maker.calls == 1
    maker.array(what=2)
    assert maker.calls == 2
    assert len(list(decoded.glob("*.npy"))) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:100],
        lambda b: b[:-1],
        lambda b: b"",
        lambda b: b[5:],
        lambda b: b"PK\x05\x06" + bytes(18),
        lambda b: b.replace(b"{'descr'", b"({[<[[[["),
    ],
)
def test_a_damaged_file_is_made_again(decoded, damage):
    maker = Maker()
    maker.array()
    (file,) = decoded.glob("*.npy")
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(content))
    assert np.array_equal(maker.array(), VALUES)
    assert maker.calls == 2
    assert file.read_bytes() == content


def test_what_another_process_left_half_written_is_cleared_away(decoded):
    maker = Maker()
    maker.array()
    (file,) = decoded.glob("*.npy")
    stale = decoded / f".{file.name}.0123.tmp"
    stale.write_bytes(b"half")
    file.unlink()
    maker.array()
    assert not stale.exists()


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert np.array_equal(Maker().array(), VALUES)


def test_a_full_disk_costs_only_time(decoded, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(array_cache, "write_atomically", full)
    assert np.array_equal(Maker().array(), VALUES)
    assert not list(decoded.glob("*.npy"))


def test_without_locks_it_is_made_all_the_same(decoded, monkeypatch):
    def unsupported(file, kind):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert np.array_equal(Maker().array(), VALUES)
    assert len(list(decoded.glob("*.npy"))) == 1


def test_blocks_keep_the_order(monkeypatch):
    monkeypatch.setattr(array_cache, "BLOCK", 4)
    images = decoded_images(
        {"what": 1}, range(10), (1, 1, 2), lambda number: np.full((1, 1, 2), number, np.uint8)
    )
    assert images[:, 0, 0, 0].tolist() == list(range(10))
