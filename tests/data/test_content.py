"""What data is called by its content: that what is hashed is what is read, and what changes."""

import gzip
import os
import pickle
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from marginbench.data import data_content, load_data, resolve_data_parameters
from marginbench.data.files.content import _key_once
from marginbench.data.formats.array_files import read_array_file
from marginbench.data.formats.images import decode_image
from marginbench.errors import UserError
from marginbench.plugins.component import Component


def test_another_pillow_decodes_anew(write_folder, monkeypatch):
    write_folder()
    before = load_data("folder", {"name": "mine"}).train_images
    monkeypatch.setattr("PIL.__version__", "0.1")
    monkeypatch.setattr(
        "marginbench.data.sources.own_images.decode_image",
        lambda *_, **__: 255 - decode_image(*_, **__),
    )
    assert torch.equal(load_data("folder", {"name": "mine"}).train_images, 255 - before)


def linked(root, name, folder):
    """A folder of links to the class folders of another one."""
    for split in ("train", "test"):
        (root / name / split).mkdir(parents=True)
        for class_name in ("ant", "bee"):
            (root / name / split / class_name).symlink_to(folder / split / class_name)


def test_linked_class_folders_are_hashed_as_they_are_read(write_folder, root):
    first, second = write_folder("first"), write_folder("second")
    for path in second.rglob("*.png"):
        Image.new("RGB", (9, 7), (10, 20, 30)).save(path)
    linked(root, "a", first)
    linked(root, "b", second)
    contents = {n: resolve_data_parameters("folder", {"name": n})["content"] for n in ("a", "b")}
    assert contents["a"] != contents["b"]
    # Links to the same images are the same images.
    assert contents["a"] == resolve_data_parameters("folder", {"name": "first"})["content"]
    images = {name: load_data("folder", {"name": name}).train_images for name in ("a", "b")}
    assert torch.equal(images["a"], load_data("folder", {"name": "first"}).train_images)
    assert torch.equal(images["b"], load_data("folder", {"name": "second"}).train_images)
    assert not torch.equal(images["a"], images["b"])


def test_images_that_change_behind_a_link_are_noticed(write_folder, root):
    folder = write_folder("first")
    linked(root, "a", folder)
    given = resolve_data_parameters("folder", {"name": "a"})
    Image.new("RGB", (9, 7)).save(folder / "test" / "bee" / "3.png")
    with pytest.raises(UserError, match="the files have changed since"):
        load_data("folder", given)


def test_files_of_one_size_and_time_are_distinct(write_folder, root):
    contents = []
    for colour in (0, 255):
        name = f"colour {colour}"
        folder = write_folder(name)
        for path in folder.rglob("*.png"):
            path.unlink()
            Image.new("L", (9, 7), colour).save(path.with_suffix(".pgm"))
            # As an archive unpacks them.
            os.utime(path.with_suffix(".pgm"), ns=(10**18, 10**18))
        (root / "link").unlink(missing_ok=True)
        (root / "link").symlink_to(folder)
        _key_once.cache_clear()
        contents.append(resolve_data_parameters("folder", {"name": "link"})["content"])
    assert contents[0] != contents[1]


def test_images_that_change_while_they_are_decoded_are_not_kept(
    write_folder, tmp_path, monkeypatch
):
    folder = write_folder()
    given = resolve_data_parameters("folder", {"name": "mine"})
    file = folder / "train" / "ant" / "0.png"
    before = file.read_bytes()
    # Several threads decode: none reads the file while it is being written.
    lock = threading.Lock()

    def change_and_read(*arguments, **options):
        with lock:
            if file.read_bytes() == before:
                Image.new("RGB", (9, 7)).save(file)
        return decode_image(*arguments, **options)

    monkeypatch.setattr("marginbench.data.sources.own_images.decode_image", change_and_read)
    with pytest.raises(UserError, match="the files have changed since"):
        load_data("folder", given)
    monkeypatch.undo()
    monkeypatch.setenv("MARGINBENCH_DATA", str(folder.parent))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    file.write_bytes(before)
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1)
    assert np.array_equal(load_data("folder", given).train_images[0], expected)


def test_an_npz_that_changes_while_it_is_read_is_refused(root, monkeypatch):
    arrays = {
        "x_train": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
        "y_train": np.arange(3),
        "x_test": np.zeros((3, 2, 2), np.uint8),
        "y_test": np.arange(3),
    }
    np.savez(root / "x.npz", **arrays)
    given = resolve_data_parameters("npz", {"name": "x.npz"})

    def change_and_read(path):
        np.savez(path, **(arrays | {"x_train": 255 - arrays["x_train"]}))
        return read_array_file(path)

    monkeypatch.setattr("marginbench.data.sources.own_images.read_array_file", change_and_read)
    with pytest.raises(UserError, match="the files have changed since"):
        load_data("npz", given)


def test_a_loop_of_links_is_named(write_folder):
    folder = write_folder()
    (folder / "train" / "ant" / "again").symlink_to(folder / "train")
    with pytest.raises(UserError, match=r"train/ant/again' is a link to a folder that it lies in"):
        load_data("folder", {"name": "mine"})
    (folder / "train" / "ant" / "again").unlink()
    (folder / "train" / "ant" / "itself").symlink_to("itself")
    with pytest.raises(UserError, match=r"train/ant/itself' cannot be read: Too many levels"):
        load_data("folder", {"name": "mine"})


@pytest.mark.parametrize("source", ["folder", "npz"])
def test_a_folder_without_images_is_refused(root, source):
    (root / "mine" / "train" / "ant").mkdir(parents=True)
    (root / "mine" / "train" / "ant" / "x.txt").write_text("no image")
    with pytest.raises(UserError, match=r"mine' has no image file; allowed: .*\.png"):
        resolve_data_parameters(source, {"name": "mine"})


def test_a_file_in_place_of_a_folder_is_refused(root):
    (root / "mine").write_text("no folder")
    with pytest.raises(UserError, match=r"mine' cannot be read: Not a directory"):
        load_data("folder", {"name": "mine", "test_share": 0.5})


def test_names_that_are_no_utf8_are_hashed(write_folder):
    folder = write_folder()
    before = resolve_data_parameters("folder", {"name": "mine"})["content"]
    (folder / "train" / "ant" / "0.png").rename(folder / "train" / "ant" / "\udcff.png")
    _key_once.cache_clear()
    assert resolve_data_parameters("folder", {"name": "mine"})["content"] != before
    assert load_data("folder", {"name": "mine"}).num_classes == 2


def test_a_name_that_no_file_can_have_is_refused(root):
    with pytest.raises(UserError, match=r"x' cannot be read: File name too long"):
        resolve_data_parameters("folder", {"name": "x" * 300})


@pytest.mark.parametrize("damage", [b"", b"\xff" * 16, b"not a hash, no!!", b"-00000000000000a"])
def test_a_damaged_hash_is_made_again(write_folder, tmp_path, damage):
    write_folder()
    before = resolve_data_parameters("folder", {"name": "mine"})
    (kept,) = (tmp_path / "cache" / "content").iterdir()
    kept.write_bytes(damage)
    _key_once.cache_clear()
    assert resolve_data_parameters("folder", {"name": "mine"}) == before


def content(name):
    return data_content(Component(name=name))


def test_content_is_of_the_images_and_labels_however_they_are_stored(
    root, write_mnist, write_cifar100, cifar_arrays
):
    folder, _ = write_mnist()
    mnist = content("mnist")
    assert len(mnist) == 16
    for path in list(folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert content("mnist") == mnist
    pickles = write_cifar100()
    cifar = content("cifar100")
    shutil.rmtree(pickles)
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(root / "cifar100.npz", **dict(zip(names, cifar_arrays, strict=True)))
    assert content("cifar100") == cifar != mnist


def test_content_that_changes_is_reported(root, write_mnist, write_cifar100):
    folder, _ = write_mnist()
    found = {content("mnist")}
    for name, byte in (("train-images-idx3-ubyte", -1), ("t10k-labels-idx1-ubyte", 9)):
        path = folder / name
        times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        changed = bytearray(path.read_bytes())
        changed[byte] ^= 1
        path.write_bytes(changed)
        # As a copy that keeps times, of the same size.
        os.utime(path, ns=times)
        found.add(content("mnist"))
    assert len(found) == 3
    pickles = write_cifar100()
    before = content("cifar100")
    train = pickle.loads((pickles / "train").read_bytes())
    train[b"fine_labels"][:2] = reversed(train[b"fine_labels"][:2])
    (pickles / "train").write_bytes(pickle.dumps(train, protocol=2))
    assert content("cifar100") != before


def test_content_is_read_once(write_mnist, monkeypatch):
    write_mnist()
    before = content("mnist")
    monkeypatch.setattr("marginbench.data.sources.mnist._read_sets", None)
    assert content("mnist") == before


def test_content_of_what_is_not_there_is_not_known_and_damage_is_an_error(write_mnist):
    assert content("mnist") == content("cifar10") == content("cifar100") == ""
    folder, _ = write_mnist()
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte' is damaged"):
        content("mnist")
    path.unlink()
    assert content("mnist") == ""
    with pytest.raises(UserError, match="unknown data source 'minst'"):
        content("minst")


def test_content_among_the_parameters_is_that_one():
    data = Component(name="folder", parameters={"name": "gone", "content": "0123456789abcdef"})
    assert data_content(data) == "0123456789abcdef"
