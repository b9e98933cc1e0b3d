"""What is said of a data set: images by class, files not read, images that are there twice."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from marginbench.data import ImageData, VerificationPairs, check_data, load_data, remarks
from marginbench.data.account import account
from marginbench.data.files.image_folders import IMAGE_SUFFIXES
from marginbench.errors import UserError
from marginbench.experiments.grids import component


def told(**parameters):
    found = {}
    check_data([component("folder", name="mine", **parameters)], found.__setitem__)
    return found["folder mine"]


def test_images_are_counted_by_split_and_class(write_folder):
    folder = write_folder()
    (folder / "train" / "bee" / "3.png").unlink()
    for file in (folder / "test" / "bee").iterdir():
        file.unlink()
    assert told() == [
        "7 training images of 2 classes, 3 ('bee') to 4 ('ant') each.",
        "4 test images of 2 classes, 0 ('bee') to 4 ('ant') each.",
        "1 classes without a test image (the first: 'bee').",
    ]


def test_a_clean_set_is_one_sentence_a_split(write_folder):
    write_folder()
    assert told() == [
        "8 training images of 2 classes, 4 each.",
        "8 test images of 2 classes, 4 each.",
    ]


@pytest.mark.parametrize("name", ["a.jfif", "a.JPE", "a.jpg", "a.JPEG"])
def test_every_ending_of_jpeg_is_read(write_folder, name):
    folder = write_folder()
    Image.new("RGB", (9, 7)).save(folder / "train" / "ant" / name, format="JPEG")
    assert len(load_data("folder", {"name": "mine"}).train_images) == 9


def test_whatever_is_there_is_read_or_named(write_folder):
    folder = write_folder()
    for name in ("x.avif", "y.HEIC", "z.jp2", "notes.txt", ".hidden.png", "README"):
        (folder / "train" / "ant" / name).write_bytes(b"anything")
    (folder / "train" / "ant" / "more.avif").write_bytes(b"")
    (folder / "train" / "ant" / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "train" / "ant" / "pipe.png")
    (folder / ".git").mkdir()
    shutil.copy(folder / "train" / "ant" / "0.png", folder / "stray.png")
    shutil.copytree(folder / "test", folder / "val")
    nested = folder / "train" / "ant" / "more" / "0.png"
    nested.parent.mkdir()
    Image.new("RGB", (9, 7)).save(nested)
    (counted, _, line) = told()
    assert counted.startswith("9 training images")
    found = sorted(
        part.split(" (the first: ")[0] for part in line.rstrip(".").split(": ", 1)[1].split(", ")
    )
    assert found == [
        "1 broken links",
        "1 ending in .heic",
        "1 ending in .jp2",
        "1 ending in .txt",
        "1 no regular files",
        "1 without an ending",
        "2 ending in .avif",
        "2 hidden",
        "9 in no class's folder",
    ]
    assert "2 ending in .avif (the first: 'train/ant/more.avif')" in line
    everything = sum(len(files) for _, _, files in os.walk(folder))
    # A hidden folder is one, whatever is in it.
    assert sum(int(one.split()[0]) for one in found) + 9 + 8 == everything + 1


def test_a_class_of_unread_files_says_so(write_folder):
    folder = write_folder()
    for file in (folder / "train" / "bee").iterdir():
        file.rename(file.with_suffix(".avif"))
    with pytest.raises(UserError, match=r"'bee' has no image in .*4 ending in \.avif"):
        load_data("folder", {"name": "mine"})
    for file in folder.rglob("*.png"):
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(UserError, match=r"no image file; allowed: .*12 ending in \.heic"):
        load_data("folder", {"name": "mine"})


def test_every_ending_that_is_read_is_decoded_by_the_formats(write_folder):
    folder = write_folder(splits=("",), each=4)
    for ending in sorted(IMAGE_SUFFIXES):
        Image.new({".pgm": "L", ".pbm": "1"}.get(ending, "RGB"), (9, 7)).save(
            folder / "ant" / f"x{ending}"
        )
    data = load_data("folder", {"name": "mine", "test_share": 0.5})
    assert len(data.train_images) + len(data.test_images) == len(IMAGE_SUFFIXES) + 8


def test_images_in_both_splits_and_under_two_labels_are_named(write_folder):
    folder = write_folder()
    shutil.copy(folder / "train" / "ant" / "1.png", folder / "test" / "ant" / "again.png")
    shutil.copy(folder / "train" / "bee" / "2.png", folder / "test" / "ant" / "other.png")
    lines = told()
    alike = "'train/ant/1.png' = 'test/ant/again.png'"
    assert f"2 of 10 test images are trained on too (the first: {alike})." in lines
    assert (
        "1 image under two labels or more (the first: 'train/bee/2.png' = 'test/ant/other.png')."
        in lines
    )


@pytest.mark.parametrize(
    "choice", [{"left_out": [0, 1]}, {"split": "per-seed"}, {"train_count": 8}]
)
def test_names_survive_every_choice_of_images(write_folder, choice):
    folder = write_folder(classes=("ant", "bee", "cat", "dog"), each=6)
    for name in ("cat", "dog"):
        for split in ("train", "test"):
            Image.new("RGB", (9, 7), "red").save(folder / split / name / "red.png")
    lines = " ".join(told(**choice))
    assert "under two labels or more (the first: 'train/cat/red.png' = 'train/dog/red.png'" in lines


def made(random, classes=3, each=3):
    shape = (classes * each, 1, 4, 4)
    images = torch.from_numpy(random.integers(0, 256, shape, dtype=np.uint8))
    return images, torch.arange(classes).repeat(each)


def test_arrays_pairs_and_tasks_are_compared_too():
    random = np.random.default_rng(0)
    images, labels = made(random)
    tests, test_labels = made(random)
    tests[4] = images[7]
    pairs = VerificationPairs(
        "pairs", images[:5], *[torch.arange(4)] * 2, torch.arange(4) > 1, torch.arange(4), ""
    )
    data = ImageData(images, labels, tests, test_labels, ("x", "y", "z"), (pairs,))
    lines = list(account(data))
    assert "1 of 9 test images are trained on too (the first: of 'y')." in lines
    assert "5 of 5 images of pairs are trained on too (the first: of 'x')." in lines
    assert not any("two labels" in line for line in lines)


def test_remarks_are_text_of_any_names(write_folder):
    folder = write_folder()
    (folder / "train" / "ant" / os.fsdecode(b"\xff\n.heic")).write_bytes(b"")
    lines = told()
    assert json.loads(json.dumps(lines)) == lines
    assert all(line.isprintable() and line.encode() for line in lines)
    data = load_data("folder", {"name": "mine"})
    assert remarks(component("folder", name="mine"), data) == lines
