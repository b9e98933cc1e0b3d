"""Tiny data sets in the files of the real ones."""

import gzip
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from marginbench.data.files.content import _key_once
from tests.data.face_files import write_bin
from tests.data.lfw_files import write_lfw


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The data folder; nothing is ever fetched from outside."""
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))

    def offline(dataset, folder):
        raise OSError("no network in tests")

    monkeypatch.setattr("marginbench.data.files.downloads._download", offline)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _fresh_process():
    _key_once.cache_clear()


@pytest.fixture
def lfw(root):
    """The folder of a made-up LFW."""
    return write_lfw(root / "lfw")


@pytest.fixture
def with_bin(root):
    """A set of ten pairs to verify on, lfw.bin."""
    write_bin(root / "lfw.bin")


def idx(array):
    return (
        b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    ) + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_mnist(root):
    """Writes 10 images a class for training, 3 for testing; returns the folder and the arrays."""

    def write(dataset="MNIST", zipped=False):
        folder = root / dataset / "raw"
        folder.mkdir(parents=True)
        random = np.random.default_rng(0)
        arrays = []
        for stem, each in (("train", 10), ("t10k", 3)):
            labels = random.permutation(np.repeat(np.arange(10), each))
            images = random.integers(0, 256, (10 * each, 28, 28))
            for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
                content = idx(array)
                path = folder / f"{stem}-{kind}-ubyte"
                if zipped:
                    path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
                else:
                    path.write_bytes(content)
                arrays.append(array)
        return folder, arrays

    return write


@pytest.fixture
def cifar_arrays():
    """x_train (500, 32, 32, 3), y_train, x_test (100, 32, 32, 3), y_test, of 100 classes."""
    random = np.random.default_rng(1)
    return (
        random.integers(0, 256, (500, 32, 32, 3), dtype=np.uint8),
        random.permutation(np.repeat(np.arange(100), 5)),
        random.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8),
        random.permutation(np.arange(100)),
    )


@pytest.fixture
def write_cifar100(root, cifar_arrays):
    """Writes the folder of pickles as the published one, keys as Python 2 wrote them."""

    def write():
        folder = root / "cifar-100-python"
        folder.mkdir()
        x_train, y_train, x_test, y_test = cifar_arrays
        for name, images, labels in (("train", x_train, y_train), ("test", x_test, y_test)):
            data = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
            batch = {b"data": data, b"fine_labels": labels.tolist()}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        names = [f"class {k}" for k in range(100)]
        (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=2))
        return folder

    return write


@pytest.fixture
def write_folder(root):
    """Writes PNGs, a folder a class: NAME[/train|test]/CLASS/*."""

    def write(name="mine", splits=("train", "test"), each=4, size=(9, 7), classes=("ant", "bee")):
        random = np.random.default_rng(2)
        for split in splits:
            for class_name in classes:
                folder = root / name / split / class_name
                folder.mkdir(parents=True)
                for number in range(each):
                    pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
        return root / name

    return write
