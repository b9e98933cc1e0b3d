"""MNIST, Fashion-MNIST and CIFAR from small files in the published formats."""

import pickle

import numpy as np
import pytest
import torch

from marginbench.data import load_data
from marginbench.data.downloads import fetch
from marginbench.errors import UserError


@pytest.mark.parametrize(
    ("name", "dataset", "zipped"),
    [("mnist", "MNIST", False), ("fashion-mnist", "FashionMNIST", True)],
)
def test_idx_files_are_read(write_mnist, name, dataset, zipped):
    _, (x_train, y_train, x_test, y_test) = write_mnist(dataset, zipped)
    data = load_data(name, {})
    assert np.array_equal(data.train_images[:, 0], x_train)
    assert np.array_equal(data.test_images[:, 0], x_test)
    assert np.array_equal(data.train_labels, y_train)
    assert np.array_equal(data.test_labels, y_test)
    assert data.image_shape == (1, 28, 28)
    assert data.num_classes == 10


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-5], ["train-images-idx3-ubyte", "78,395 bytes", "78,400"]),
        (lambda content: b"\0\0\x0d" + content[3:], ["is no idx file"]),
        (lambda content: b"", ["is no idx file"]),
        (lambda content: b"\0\0\x08\x01" + (100).to_bytes(4, "big") + content[:100], ["1 dim"]),
    ],
)
def test_damaged_idx_files_are_refused(write_mnist, damage, words):
    folder, _ = write_mnist()
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as refusal:
        load_data("mnist", {})
    for word in [str(path), *words]:
        assert word in str(refusal.value)


def test_labels_out_of_range_are_refused(write_mnist):
    folder, _ = write_mnist()
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([10]))
    with pytest.raises(UserError, match="test label 10 is not allowed; allowed: 0 to 9"):
        load_data("mnist", {})


def test_a_class_without_images_is_refused(write_mnist):
    folder, (_, labels, *_) = write_mnist()
    path = folder / "train-labels-idx1-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:8] + np.where(labels == 7, 8, labels).astype(np.uint8).tobytes())
    with pytest.raises(UserError, match="class '7' has no training image"):
        load_data("mnist", {})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", ["MNIST/raw", "train-images-idx3-ubyte", "no network", "--data"]),
        ("cifar10", ["cifar-10-batches-py", "data_batch_1", "test_batch"]),
        ("cifar100", ["cifar-100-python", "meta", "or cifar100.npz into"]),
    ],
)
def test_missing_files_are_named_where_they_cannot_be_fetched(root, name, words):
    with pytest.raises(UserError) as refusal:
        load_data(name, {})
    for word in [f"'{name}'", str(root), *words]:
        assert word in str(refusal.value)
    assert list(root.iterdir()) == []


def test_a_failed_download_leaves_no_folder_that_was_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path / "new" / "data"))
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match="could not be downloaded"):
        load_data("mnist", {})
    assert set(tmp_path.iterdir()) == before


def test_a_download_appears_whole_and_only_once(root, monkeypatch):
    calls = []

    def download(dataset, place):
        calls.append(dataset)
        assert not (root / "A" / "raw").exists()
        (place / "A" / "raw").mkdir(parents=True)
        (place / "A" / "raw" / "x").write_text(dataset)

    monkeypatch.setattr("marginbench.data.downloads._download", download)
    for _ in range(2):
        assert (fetch("owner", "A", root, "A/raw", ["x"]) / "x").read_text() == "A"
    assert calls == ["A"]
    assert [p.name for p in root.iterdir()] == ["A"]


def test_a_download_that_another_process_won_is_dropped(root, monkeypatch):
    def download(dataset, place):
        for base in (place, root):
            (base / "A" / "raw").mkdir(parents=True)
            (base / "A" / "raw" / "x").write_text(str(base))

    monkeypatch.setattr("marginbench.data.downloads._download", download)
    assert (fetch("owner", "A", root, "A/raw", ["x"]) / "x").read_text() == str(root)


def test_cifar_is_the_same_from_pickles_and_from_npz(root, write_cifar100, cifar_arrays):
    folder = write_cifar100()
    from_pickles = load_data("cifar100", {})
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    names = ("x_train", "y_train", "x_test", "y_test")
    # Sorted by class: the order in the file must not matter.
    order = np.argsort(cifar_arrays[1], kind="stable")
    arrays = dict(zip(names, cifar_arrays, strict=True))
    arrays |= {"x_train": arrays["x_train"][order], "y_train": arrays["y_train"][order]}
    np.savez(root / "cifar100.npz", **arrays, classes=[f"class {k}" for k in range(100)])
    from_npz = load_data("cifar100", {})
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(from_pickles, field), getattr(from_npz, field))
    assert from_npz.class_names == from_pickles.class_names
    # Every image kept its label.
    labels = {image.tobytes(): y for image, y in zip(*cifar_arrays[:2], strict=True)}
    for image, label in zip(from_npz.train_images, from_npz.train_labels, strict=True):
        assert labels[image.permute(1, 2, 0).contiguous().numpy().tobytes()] == label


def test_a_pickle_that_would_run_code_is_refused(write_cifar100, tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "broken-in"), "w"))

    folder = write_cifar100()
    (folder / "train").write_bytes(pickle.dumps({"data": Attack()}))
    with pytest.raises(UserError, match="train' is damaged: it asks for"):
        load_data("cifar100", {})
    assert not (tmp_path / "broken-in").exists()


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"data": np.zeros((2, 3072)), "fine_labels": [0, 1]}, "must be bytes"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0]}, "2 images and 1 labels"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": ["0", "1"]}, "list of integers"),
        ([], "no dictionary"),
    ],
)
def test_damaged_pickles_are_refused(write_cifar100, batch, words):
    folder = write_cifar100()
    (folder / "test").write_bytes(pickle.dumps(batch))
    with pytest.raises(UserError, match=words) as refusal:
        load_data("cifar100", {})
    assert str(folder / "test") in str(refusal.value)


def test_a_truncated_pickle_is_refused(write_cifar100):
    folder = write_cifar100()
    path = folder / "train"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="is damaged"):
        load_data("cifar100", {})
