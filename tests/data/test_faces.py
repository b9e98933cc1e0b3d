"""Face sets to train on, sets to verify on, and people who may not be in both."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from marginbench.data import load_data, resolve_data_parameters
from marginbench.data.files.content import _key_once
from marginbench.data.formats.images import decode_image
from marginbench.errors import UserError
from tests.data.face_files import BIN, write_bin, write_people
from tests.data.lfw_files import write_image
from tests.data.record_files import (
    png,
    write_faces,
)


def test_a_folder_of_people_verified_on_lfw(root, lfw):
    write_people(root / "casia", {"Ann_Other": 3, "Bob_Else": 2})
    given = {"name": "casia", "verify": ["lfw"], "exclude": ["lfw"], "size": 16, "verify_crop": 32}
    data = load_data("faces", given)
    assert data.class_names == ("Ann_Other", "Bob_Else")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert data.test_images.shape == (0, 3, 16, 16)
    (pairs,) = data.verification
    assert (pairs.name, pairs.tested_folds) == ("lfw", None)
    assert torch.bincount(pairs.fold).tolist() == [4] * 10
    assert pairs.image_names[:2] == ("Set1_Person_0 1", "Set1_Person_0 2")
    assert data.remarks == (
        "People excluded from training by the list lfw/people.txt (50 entries): 0 of 2 left out.",
    )
    with Image.open(root / "casia/Bob_Else/1.jpg") as image:
        expected = image.resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(data.train_images[4], np.asarray(expected).transpose(2, 0, 1))
    with Image.open(lfw / "lfw-deepfunneled/Set1_Person_0/Set1_Person_0_0002.jpg") as image:
        cut = image.crop((4, 4, 36, 36)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(pairs.images[1], np.asarray(cut).transpose(2, 0, 1))


def test_overlapping_people_are_an_error_unless_excluded_or_asked_for(root, lfw):
    others = {"Ann_Other": 3, "Bob_Else": 2}
    write_people(root / "casia", {"set1  person-0": 2, "SET3_PERSON_2": 2, **others})
    given = {"name": "casia", "verify": ["lfw"], "size": 16}
    words = (
        r"2 people are in the training set and in 'lfw' \(SET3_PERSON_2, set1  person-0\); allowed"
    )
    with pytest.raises(UserError, match=words):
        load_data("faces", given)
    data = load_data("faces", given | {"exclude": ["lfw/people.txt"]})
    assert data.class_names == ("Ann_Other", "Bob_Else")
    assert data.remarks == (
        "People excluded from training by the list lfw/people.txt (50 entries): 2 of 4 left out.",
    )
    both = load_data("faces", given | {"allow_overlap": True})
    assert both.num_classes == 4
    assert both.remarks == ("lfw: 2 of its people are trained on (allow_overlap = True).",)


def test_an_npz_of_training_images_alone(root, with_bin):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    labels = np.array([0, 1, 1, 3, 3, 3])
    np.savez(root / "faces.npz", x_train=images, y_train=labels, classes=["A", "B", "C", "D"])
    data = load_data("faces", {"name": "faces.npz", **BIN})
    assert data.class_names == ("A", "B", "D")
    assert data.train_labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert np.array_equal(data.train_images, images.transpose(0, 3, 1, 2))
    cut = load_data("faces", {"name": "faces.npz", **BIN, "crop": 8, "size": 8, "colour": "grey"})
    assert cut.image_shape == (1, 8, 8)
    for change, words in (
        ({"y_train": labels[:4]}, "6 training images and 4 labels"),
        ({"y_train": labels + 1}, r"labels from 1 to 4; allowed: 0 to 3"),
        ({"x_train": np.array([None])}, "arrays of objects are not allowed"),
    ):
        arrays = {"x_train": images, "y_train": labels, "classes": ["A", "B", "C", "D"]} | change
        np.savez(root / "faces.npz", **arrays)
        _key_once.cache_clear()
        with pytest.raises(UserError, match=words):
            load_data("faces", {"name": "faces.npz", **BIN})


@pytest.mark.parametrize("kind", ["records", "folder", "lfw"])
def test_files_that_change_while_they_are_decoded_are_not_kept(
    root, with_bin, lfw, tmp_path, monkeypatch, kind
):
    if kind == "records":
        write_faces(root / "mine", [2, 3, 1])
        file, target = (
            root / "mine" / "train.rec",
            "marginbench.data.sources.face_sets.decode_image",
        )
    elif kind == "folder":
        for person in range(2):
            (root / "mine" / str(person)).mkdir(parents=True)
            (root / "mine" / str(person) / "0.png").write_bytes(png(person))
        file = root / "mine" / "1" / "0.png"
        target = "marginbench.data.sources.face_sets.decode_image"
    else:
        write_faces(root / "mine", [2, 3, 1])
        file = root / "lfw/lfw-deepfunneled/Set4_Person_1/Set4_Person_1_0001.jpg"
        target = "marginbench.data.sources.lfw_images.decode_image"
    verify = {"verify": ["lfw"], "size": 16} if kind == "lfw" else BIN
    given = resolve_data_parameters("faces", {"name": "mine", **verify})

    def touch_and_decode(*arguments, **options):
        with file.open("ab") as stream:
            stream.write(b"\0")
        return decode_image(*arguments, **options)

    monkeypatch.setattr(target, touch_and_decode)
    before = kept_arrays(tmp_path)
    with pytest.raises(UserError, match="the files have changed since"):
        load_data("faces", given)
    whole = [path for path in kept_arrays(tmp_path) - before if np.load(path).ndim == 4]
    # The other set's, which did not change, may be there.
    assert len(whole) == (1 if kind != "lfw" else 0)


def kept_arrays(tmp_path):
    return set((tmp_path / "cache" / "decoded").glob("[!.]*.npy"))


def test_several_sets_are_verified(root, lfw):
    write_bin(root / "bins" / "cfp_fp.bin")
    write_bin(root / "bins" / "agedb_30.bin", pairs=13)
    write_people(root / "casia", {"Ann_Other": 3, "Bob_Else": 2})
    verify = ["lfw", "bins/cfp_fp.bin", "bins/agedb_30.bin"]
    data = load_data("faces", {"name": "casia", "verify": verify, "size": 16})
    assert [pairs.name for pairs in data.verification] == ["lfw", "cfp_fp", "agedb_30"]
    assert not any(pairs.may_be_shown for pairs in data.verification)
    assert data.verification[2].fold.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_content_is_of_every_file_that_counts(root, lfw):
    write_people(root / "casia", {"0": 3, "1": 2, "2": 2})
    write_bin(root / "cfp_fp.bin")
    (root / "names.txt").write_text("0 Ann\n1 Bob\n2 Set1_Person_0\n")
    (root / "out.txt").write_text("nobody\n")
    given = {
        "name": "casia",
        "verify": ["lfw", "cfp_fp.bin"],
        "exclude": ["lfw", "out.txt"],
        "people_names": "names.txt",
        "size": 16,
    }
    values = resolve_data_parameters("faces", given)
    assert len(values["content"]) == 16
    load_data("faces", values)
    for file in (
        root / "casia/0/0.jpg",
        root / "cfp_fp.bin",
        root / "names.txt",
        root / "out.txt",
        lfw / "pairs.txt",
        lfw / "people.txt",
        lfw / "lfw-deepfunneled/Set1_Person_0/Set1_Person_0_0001.jpg",
    ):
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        with pytest.raises(UserError, match="the files have changed since"):
            load_data("faces", values)
        file.write_bytes(before)
    load_data("faces", values)
    shutil.rmtree(root)
    assert resolve_data_parameters("faces", values) == values


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "casia"}, "needs its parameter 'verify'"),
        ({"name": "casia", "verify": []}, r"verify = \[\] is not allowed; allowed: list of text"),
        (
            {"name": "casia", "verify": ["casia"]},
            r"'casia' is not allowed, as .* has no pairs\.txt",
        ),
        (
            {"name": "casia", "verify": ["out.txt"]},
            "'out.txt' is not allowed; allowed: LFW's folder",
        ),
        ({"name": "casia", "verify": ["../x"]}, "verify = '../x' is not allowed; allowed: a name"),
        ({"name": "casia", "verify": ["no.bin"]}, "no.bin' does not exist; the verify 'no.bin' is"),
        ({"name": "casia", "verify": ["lfw.bin", "lfw"]}, "two sets are called 'lfw'"),
        (
            {"name": "casia", **BIN, "exclude": ["casia"]},
            r"exclude = 'casia' .* has no people\.txt",
        ),
        ({"name": "casia", **BIN, "exclude": ["empty.txt"]}, "empty.txt' has no name"),
        ({"name": "casia", **BIN, "people_names": "nope"}, "the people_names 'nope' is relative"),
        ({"name": "casia", **BIN, "crop": 21, "verify_crop": 16}, "is 20×20 pixels, too small for"),
        (
            {"name": "casia", **BIN, "verify_crop": 17},
            "image 0 is 16×16 pixels, too small for a crop",
        ),
        ({"name": "casia", **BIN, "minimum_images": 4}, "minimum_images = 4 is not allowed"),
        ({"name": "bare", **BIN}, r"bare' has no image; allowed: a folder a person"),
        ({"name": "half", **BIN}, r"half/train.idx' cannot be read: No such file"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(root, lfw, with_bin, given, words):
    write_people(root / "casia", {"Ann_Other": 3, "Bob_Else": 2})
    (root / "out.txt").write_text("nobody\n")
    (root / "empty.txt").write_text("# nobody\n")
    (root / "bare").mkdir()
    write_image(root / "bare" / "x.jpg", "x", 1)
    write_faces(root / "half", [1, 1])
    (root / "half" / "train.idx").unlink()
    with pytest.raises(UserError, match=words):
        load_data("faces", given)


def test_lfw_with_two_folders_of_images_cannot_be_verified(root, lfw):
    write_people(root / "casia", {"Ann_Other": 3, "Bob_Else": 2})
    (lfw / "lfw").mkdir()
    with pytest.raises(UserError, match=r"lfw, lfw-deepfunneled; leave only one of them there"):
        load_data("faces", {"name": "casia", "verify": ["lfw"]})


def test_lfw_cannot_be_trained_and_verified_on_at_once(root, lfw):
    given = {"name": "lfw/lfw-deepfunneled", "verify": ["lfw"], "size": 16}
    with pytest.raises(UserError, match=r"\d+ people are in the training set and in 'lfw'"):
        load_data("faces", given)
    with pytest.raises(UserError, match="of 0 people 0 have so many images"):
        load_data("faces", given | {"exclude": ["lfw"]})
