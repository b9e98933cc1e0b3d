"""MNIST, Fashion-MNIST and CIFAR from small files in the published formats."""

import gzip
import pickle
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from marginbench.data import load_data
from marginbench.errors import UserError
from tests.data.pickle_files import BOMBS, python_2_array, python_2_text


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
        (lambda content: content[:14], ["is no idx file"]),
        (lambda content: content + b"x", ["more than 78,400 bytes"]),
        (
            lambda content: content[:4] + b"\x80\0\0\0" * 3 + content[16:],
            ["than the file can hold"],
        ),
        (lambda content: content[:4] + b"\xff" * 12, ["more than the file can hold"]),
        (lambda content: b"\0\0\x08\xff" + bytes(4 * 255), ["has 255 dimensions; allowed: 3"]),
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


def test_a_zipped_idx_file_is_unpacked_as_far_as_its_header_tells(write_mnist):
    folder, _ = write_mnist(zipped=True)
    path = folder / "train-images-idx3-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(
            UserError, match="more than 78,400 bytes of data, and its header claims"
        ):
            load_data("mnist", {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
    path.write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(UserError, match="ubyte' cannot be read"):
        load_data("mnist", {})


def test_files_larger_than_memory_are_refused(write_mnist, write_cifar100, monkeypatch):
    write_mnist()
    write_cifar100()
    machine = SimpleNamespace(total=70_000)
    monkeypatch.setattr("marginbench.data.formats.archives.psutil.virtual_memory", lambda: machine)
    for name in ("mnist", "cifar100"):
        with pytest.raises(UserError, match=r"cannot be read: it holds .* bytes, and this machine"):
            load_data(name, {})


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
    with pytest.raises(UserError, match="train' is refused: it holds the call of "):
        load_data("cifar100", {})
    assert not (tmp_path / "broken-in").exists()


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"data": np.zeros((2, 3072)), "fine_labels": [0, 1]}, "holds an array of 'f8'"),
        ({"data": np.zeros((2, 99), np.uint8), "fine_labels": [0, 1]}, "must be bytes"),
        ({"data": bytes(6144), "fine_labels": [0, 1]}, "must be bytes"),
        (
            {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [2**70]},
            "a whole number of more than 64 bits",
        ),
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
    with pytest.raises(UserError, match="train' is refused: it holds a damaged instruction"):
        load_data("cifar100", {})


def python_2_labels(numbers):
    return b"](" + b"".join(b"K" + bytes([number]) for number in numbers) + b"e"


@pytest.mark.parametrize("by_columns", [False, True])
def test_cifar_is_read_as_python_2_wrote_it(root, write_cifar100, cifar_arrays, by_columns):
    """The instructions of the published files: short texts, memo, an array of numpy 1."""
    folder = write_cifar100()
    expected = load_data("cifar100", {})
    x_train, y_train, *_ = cifar_arrays
    data = x_train.transpose(0, 3, 1, 2).reshape(500, 3072)
    text = python_2_text
    names = b"".join(text(b"image_%d.png" % k) + b"q" + bytes([k % 9]) for k in range(500))
    content = (
        b"\x80\x02}q\x01("
        + (text(b"filenames") + b"q\x02](" + names + b"e")
        + (text(b"batch_label") + text(b"training batch 1 of 1"))
        + (text(b"fine_labels") + python_2_labels(y_train))
        + (text(b"coarse_labels") + python_2_labels(y_train // 5))
        + (text(b"data") + python_2_array(np.asfortranarray(data) if by_columns else data))
        + b"u."
    )
    assert np.array_equal(pickle.loads(content, encoding="latin1")["data"], data)
    (folder / "train").write_bytes(content)
    classes = b"".join(text(b"class %d" % k) for k in range(100))
    (folder / "meta").write_bytes(
        b"\x80\x02}" + text(b"fine_label_names") + b"](" + classes + b"es."
    )
    found = load_data("cifar100", {})
    assert torch.equal(found.train_images, expected.train_images)
    assert torch.equal(found.train_labels, expected.train_labels)
    assert found.class_names == expected.class_names


def test_a_made_up_type_reads_no_addresses(write_cifar100):
    """numpy would take bytes for the address of an object, and the process would crash."""
    folder = write_cifar100()
    made_up = (
        b"\x80\x02}(X\x04\x00\x00\x00datacnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85"
        b"cnumpy\ndtype\nU\x02V8K\x00K\x01\x87R(K\x03U\x01|N"
        b"U\x01f\x85}U\x01fcnumpy\ndtype\nU\x02O8K\x00K\x01\x87RK\x00\x86sK\x08K\x01K\x00tb"
        b"\x89U\x08AAAAAAAAtbu."
    )
    (folder / "test").write_bytes(made_up)
    with pytest.raises(UserError, match="test' is refused: it holds an array of 'V8'"):
        load_data("cifar100", {})


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_in_cifar_costs_neither_time_nor_memory(write_cifar100, bomb):
    folder = write_cifar100()
    (folder / "meta").write_bytes(BOMBS[bomb])
    with pytest.raises(UserError, match=r"meta' (is refused|is damaged|has no list)"):
        load_data("cifar100", {})


@pytest.mark.parametrize(
    "name", [b"caf\xe9", "\ud800", 7, None, ["class"], "x" * 201, np.zeros(2, np.uint8)]
)
def test_class_names_that_are_no_text_are_refused(write_cifar100, name):
    folder = write_cifar100()
    names = [f"class {k}" for k in range(99)] + [name]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    with pytest.raises(UserError, match="entry 99 of 'fine_label_names' is not allowed; allowed:"):
        load_data("cifar100", {})
