"""A user's folder of images."""

import multiprocessing
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from marginbench.data import load_data, resolve_data_parameters
from marginbench.data.files.content import _key_once
from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import make_cell
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell


def key_of(source, **parameters):
    cell = make_cell(
        data=component(source, **parameters),
        backbone=component("small"),
        head=component("softmax"),
        schedule=Schedule(iterations=20, batch_size=4),
    )
    return resolve_cell(cell).key


def test_a_folder_with_train_and_test(write_folder):
    folder = write_folder()
    data = load_data("folder", {"name": "mine"})
    assert data.image_shape == (3, 7, 9)
    assert data.class_names == ("ant", "bee")
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0] * 4 + [1] * 4
    expected = np.asarray(Image.open(folder / "test" / "bee" / "2.png")).transpose(2, 0, 1)
    assert np.array_equal(data.test_images[6], expected)


def test_one_folder_is_split_by_share(write_folder):
    write_folder(splits=("",), each=10)
    data = load_data("folder", {"name": "mine", "test_share": 0.3})
    assert np.bincount(data.train_labels).tolist() == [7, 7]
    assert np.bincount(data.test_labels).tolist() == [3, 3]
    images = torch.cat([data.train_images, data.test_images])
    assert len({image.numpy().tobytes() for image in images}) == 20


def test_images_are_resized_and_turned_grey(write_folder):
    folder = write_folder()
    Image.new("RGB", (40, 20), (200, 100, 0)).save(folder / "train" / "ant" / "large.jpg")
    with pytest.raises(UserError, match=r"40×20 pixels .* is 9×7; give size"):
        load_data("folder", {"name": "mine"})
    data = load_data("folder", {"name": "mine", "size": 12, "colour": "grey"})
    assert data.image_shape == (1, 12, 12)
    large = data.train_images[4].float()
    assert large.mean().item() == pytest.approx(0.299 * 200 + 0.587 * 100, abs=3)


def test_decoding_happens_once(write_folder, monkeypatch):
    write_folder()
    first = load_data("folder", {"name": "mine", "size": 8})
    monkeypatch.setattr("marginbench.data.sources.own_images.decode_image", None)
    second = load_data("folder", {"name": "mine", "size": 8, "train_count": 4})
    assert second.train_images.shape == (4, 3, 8, 8)
    assert torch.equal(first.test_images, second.test_images)


def _save_one(path, _):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _save_few(path, _):
    with path.open("wb") as file:
        np.savez(file, train_images=np.zeros(3))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, content: path.write_bytes(content[:200]),
        lambda path, content: path.write_bytes(content[:-1]),
        lambda path, content: path.write_bytes(content.replace(b"{'descr'", b"({[<[[[[")),
        _save_one,
        _save_few,
    ],
)
def test_a_damaged_cache_is_made_again(write_folder, tmp_path, damage):
    write_folder()
    first = load_data("folder", {"name": "mine"})
    (cached,) = (tmp_path / "cache" / "decoded").glob("*.npy")
    damage(cached, cached.read_bytes())
    assert torch.equal(load_data("folder", {"name": "mine"}).train_images, first.train_images)


def _load(queue):
    queue.put(load_data("folder", {"name": "mine", "size": 16}).train_images.sum().item())


def test_processes_that_start_at_once_agree(write_folder, tmp_path):
    write_folder(each=20)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_load, args=(queue,)) for _ in range(3)]
    for process in processes:
        process.start()
    sums = {queue.get(timeout=900) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {load_data("folder", {"name": "mine", "size": 16}).train_images.sum().item()}
    assert len(list((tmp_path / "cache" / "decoded").glob("*.npy"))) == 1


def test_an_unwritable_cache_costs_only_time(write_folder, tmp_path):
    write_folder()
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert load_data("folder", {"name": "mine"}).num_classes == 2


def test_images_that_move_keep_their_key_and_images_that_change_do_not(
    write_folder, root, tmp_path, monkeypatch
):
    folder = write_folder()
    before = key_of("folder", name="mine")
    shutil.move(root, tmp_path / "elsewhere")
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path / "elsewhere"))
    assert key_of("folder", name="mine") == before
    _key_once.cache_clear()
    moved = tmp_path / "elsewhere" / "mine" / "train" / "ant"
    Image.new("RGB", (9, 7)).save(moved / "0.png")
    assert key_of("folder", name="mine") != before
    assert not folder.exists()


def test_a_cell_with_its_content_needs_no_data_until_it_runs(write_folder):
    write_folder()
    content = resolve_data_parameters("folder", {"name": "mine"})["content"]
    before = key_of("folder", name="mine")
    assert key_of("folder", name="mine", content=content) == before
    assert key_of("folder", name="gone", content=content) != before
    with pytest.raises(UserError, match=r"'/.*gone' does not exist"):
        load_data("folder", {"name": "gone", "content": content})
    with pytest.raises(UserError, match="the files have changed since"):
        load_data("folder", {"name": "mine", "content": "0" * 16})


@pytest.mark.parametrize("name", ["/etc", "../x", "a/../../x", "", "~/x"])
def test_names_that_leave_the_data_folder_are_refused(name):
    with pytest.raises(UserError, match="relative to the data folder"):
        resolve_data_parameters("folder", {"name": name})


def test_folders_that_cannot_be_trained_on_are_refused(write_folder):
    folder = write_folder()
    ask = {"name": "mine"}
    with pytest.raises(UserError, match=r"test_share = 0\.5 is not allowed"):
        load_data("folder", {**ask, "test_share": 0.5})
    (folder / "test" / "cat").mkdir()
    with pytest.raises(UserError, match="cat' is a class that the training images do not have"):
        load_data("folder", ask)
    (folder / "train" / "cat").mkdir()
    with pytest.raises(UserError, match="class 'cat' has no image"):
        load_data("folder", ask)
    (folder / "train" / "cat" / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="the files have changed since"):
        load_data("folder", ask)
    with pytest.raises(UserError, match=r"cat/x.png' cannot be decoded"):
        load_data("folder", ask)
    shutil.rmtree(folder / "test")
    _key_once.cache_clear()
    with pytest.raises(UserError, match="has no 'train' and 'test'"):
        load_data("folder", ask)


def test_deep_images_are_refused(write_folder):
    folder = write_folder()
    Image.fromarray(np.zeros((7, 9), dtype=np.uint16)).save(folder / "train" / "ant" / "deep.png")
    with pytest.raises(UserError, match="mode 'I;16'; allowed: images of 8 bits"):
        load_data("folder", {"name": "mine"})


CLASSES = ("ant", "bee", "cat", "dog", "eel")


def test_a_share_of_the_classes_is_left_out_whole(write_folder):
    write_folder(splits=(".",), each=6, classes=CLASSES)
    data = load_data("folder", {"name": "mine", "left_out_share": 0.4})
    assert data.class_names == ("ant", "bee", "cat")
    assert (len(data.train_images), len(data.test_images)) == (18, 0)
    (pairs,) = data.verification
    assert torch.bincount(pairs.people).tolist() == [0, 0, 0, 6, 6]
    everything = load_data("folder", {"name": "mine", "test_share": 0.5})
    whole = torch.cat([everything.train_images, everything.test_images]).flatten(1)
    parts = torch.cat([data.train_images, pairs.images]).flatten(1)
    assert sorted(whole.tolist()) == sorted(parts.tolist())


def test_a_file_names_the_classes_that_are_left_out(write_folder, root):
    write_folder(splits=(".",), each=4, classes=CLASSES)
    listed = root / "held.txt"
    listed.write_text("dog\n\nbee\n")
    ask = {"name": "mine", "left_out_file": "held.txt"}
    data = load_data("folder", ask)
    assert data.class_names == ("ant", "cat", "eel")
    assert data.verification[0].people.unique().tolist() == [1, 3]
    before = key_of("folder", **ask)
    for text, words in (
        ("dog\nbird", "line 2: no class 'bird'; allowed: ant, bee"),
        ("dog\nbee\ndog", "line 3: the class 'dog' is in line 1 already"),
        ("dog", "names 1 of 5 classes; allowed: 2 to 3"),
    ):
        listed.write_text(text)
        _key_once.cache_clear()
        with pytest.raises(UserError, match=words):
            load_data("folder", ask)
    listed.write_text("dog\nant\n")
    _key_once.cache_clear()
    assert key_of("folder", **ask) != before


def test_choices_of_classes_that_cannot_be_are_refused(write_folder, root):
    write_folder(splits=(".",), each=4, classes=CLASSES)
    (root / "held.txt").write_text("dog\nbee\n")
    for given, words in (
        ({"left_out_share": 0.2}, "left_out_share = 0.2 leaves out 1 of 5 classes"),
        ({"left_out_share": 0.4, "left_out": [0, 1]}, r"left_out = \[0, 1\] is not allowed with"),
        ({"left_out_share": 0.4, "left_out_file": "held.txt"}, "allowed: one of them"),
    ):
        with pytest.raises(UserError, match=words):
            load_data("folder", {"name": "mine", **given})


def test_all_bad_files_are_refused_at_once(write_folder):
    folder = write_folder(each=6)
    for number in range(4):
        pixels = np.zeros((7, 9), dtype=np.uint16)
        Image.fromarray(pixels).save(folder / "train" / "ant" / f"{number}.png")
    (folder / "test" / "bee" / "0.png").write_bytes(b"")
    (folder / "test" / "bee" / "1.png").write_bytes(b"no image")
    whole = (folder / "test" / "bee" / "2.png").read_bytes()
    (folder / "test" / "bee" / "2.png").write_bytes(whole[:60])
    for size in ({}, {"size": 8}):
        with pytest.raises(UserError, match=r"7 images are refused, .*0\.png.*1\.png") as refusal:
            load_data("folder", {"name": "mine", **size})
        assert str(refusal.value).count(".png' is of mode 'I;16'") == 3
        assert "\n" not in str(refusal.value)


def test_all_images_of_another_size_are_counted(write_folder):
    folder = write_folder()
    for number in range(3):
        Image.new("RGB", (5, 5)).save(folder / "test" / "bee" / f"{number}.png")
    with pytest.raises(UserError, match=r"3 images are refused, .*5×5 pixels .* is 9×7"):
        load_data("folder", {"name": "mine"})


def test_all_unreadable_files_are_refused_at_once(write_folder, monkeypatch):
    folder = write_folder()
    unreadable = [folder / "train" / "ant" / name for name in ("1.png", "2.png")]
    opened = Path.open

    def refuse(path, *args, **options):
        if path in unreadable:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        UserError, match=r"2 files are refused, .*1\.png' cannot be read: Perm.*2\.png"
    ):
        load_data("folder", {"name": "mine"})


def test_warnings_of_the_decoder_name_the_images(write_folder, monkeypatch):
    write_folder()
    upright = ImageOps.exif_transpose

    def warning(image):
        about = ("corrupt EXIF data", UserWarning, "PIL/ImageOps.py", 1, "PIL.ImageOps")
        warnings.warn_explicit(*about)
        return upright(image)

    monkeypatch.setattr(ImageOps, "exif_transpose", warning)
    with pytest.warns(UserWarning, match=r"test/ant/0\.png' \(and 15 more\): corrupt EXIF") as told:
        load_data("folder", {"name": "mine", "size": 8})
    assert len(told) == 1


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_of_classes_may_begin_with_a_byte_order_mark(write_folder, root, mark):
    write_folder(classes=("ant", "bee", "cat", "dog"))
    (root / "list.txt").write_text(f"{mark}cat\r\n\ndog\n", encoding="utf-8")
    data = load_data("folder", {"name": "mine", "left_out_file": "list.txt"})
    assert data.class_names == ("ant", "bee")


def test_all_wrong_lines_of_a_list_are_refused_at_once(write_folder, root):
    write_folder(classes=("ant", "bee", "cat", "dog"))
    (root / "list.txt").write_text("emu\ncat\ncat\n" + 10_000 * "x")
    with pytest.raises(
        UserError, match=r"3 lines are refused, .*'emu'.*line 3: .*line 4"
    ) as refusal:
        load_data("folder", {"name": "mine", "left_out_file": "list.txt"})
    assert len(str(refusal.value)) < 1500


def test_all_wrong_arrays_of_an_archive_are_refused_at_once(root):
    floats, labels = np.zeros((4, 5, 5)), np.zeros(4)
    np.savez(root / "a.npz", x_train=floats, y_train=labels, x_test=floats, y_test=labels)
    with pytest.raises(UserError, match=r"2 arrays are refused, .*x_train is float64.*x_test is"):
        load_data("npz", {"name": "a.npz"})
