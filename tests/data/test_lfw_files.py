"""Protocol files and images of LFW that are not right: each is named."""

import shutil

import pytest
from PIL import Image

from marginbench.data import load_data
from marginbench.data.files.content import _key_once
from marginbench.errors import UserError
from tests.data.lfw_files import UNRESTRICTED, VIEW1


def test_missing_protocol_files_are_named(lfw):
    (lfw / "pairs.txt").unlink()
    with pytest.raises(UserError, match=r"lacks pairs\.txt; protocol = 'unrestricted' needs"):
        load_data("lfw", UNRESTRICTED)
    (lfw / "peopleDevTest.txt").unlink()
    with pytest.raises(UserError, match=r"lacks peopleDevTest\.txt"):
        load_data("lfw", VIEW1)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("pairs.txt", "10\t2\n", "10\n", r"line 1 is '10'; expected: 10<tab>NUMBER"),
        ("pairs.txt", "10\t2\n", "9\t2\n", r"line 1 is '9\\t2'; expected: 10<tab>"),
        ("pairs.txt", "10\t2\n", "10\t3\n", r"line 4 is .*; expected: NAME<tab>NUMBER<tab>NUMBER"),
        ("pairs.txt", "Set1_Person_0\t1\t2", "Set1_Person_0\t1\tx", "line 2 is .*expected: NAME"),
        ("pairs.txt", "Set1_Person_0\t1\t2", "Set1_Person_0\t1\t1", "line 2 .* not the same one"),
        ("pairs.txt", "Set1_Person_0\t1\t2", "Set1_Person_0 1 2", "line 2 is 'Set1_Person_0 1 2'"),
        ("pairs.txt", "Set1_Person_0\t1\t2", "Set1_Person_0\t0\t2", "line 2 is .*; expected: NAME"),
        (
            "pairs.txt",
            "Set1_Person_0\t1\tSet1_Person_1\t1",
            "Set1_Person_0\t1\tSet1_Person_0\t1",
            "line 4 is .*images of two people",
        ),
        (
            "pairs.txt",
            "Set1_Person_0\t1\t2",
            "Set1_Person_0\t1\t7",
            "line 2 names an image that does not exist: .*Set1_Person_0_0007.jpg",
        ),
        (
            "pairs.txt",
            "Set1_Person_0\t1\t2",
            "Set2_Person_1\t1\t2",
            "line 2: 'Set2_Person_1' is not among the people of set 1 of",
        ),
        ("people.txt", "10\n5\n", "9\n5\n", "line 1 is '9'; expected: 10, the number of sets"),
        ("people.txt", "10\n5\n", "10\n6\n", "line 8 is '5'; expected: NAME<tab>NUMBER OF IMAGES"),
        ("people.txt", "10\n5\n", "10\nfive\n", "line 2 is 'five'; expected: the number of people"),
        ("people.txt", "Set1_Person_0\t2", "Set1_Person_0", "line 3 is 'Set1_Person_0'; expected"),
        (
            "people.txt",
            "Set2_Person_0",
            "Set1_Person_0",
            "line 9 is .*; expected: a person who is not in line 3 already",
        ),
        (
            "people.txt",
            "Set5_Person_0\t2",
            "Set5_Person_0\t9",
            "people.txt' names an image that does not exist: .*Set5_Person_0_0003.jpg",
        ),
    ],
)
def test_lines_that_are_not_right_are_named(lfw, file, old, new, words):
    text = (lfw / file).read_text()
    assert old in text
    (lfw / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        load_data("lfw", UNRESTRICTED)


def test_files_that_end_too_soon_or_too_late_are_named(lfw):
    pairs = lfw / "pairs.txt"
    text = pairs.read_text()
    pairs.write_text(text + "Set1_Person_0\t1\t2\n")
    with pytest.raises(UserError, match=r"line 42 is .*; expected: the end of the file"):
        load_data("lfw", UNRESTRICTED)
    pairs.write_text("\n".join(text.splitlines()[:-1]))
    _key_once.cache_clear()
    with pytest.raises(UserError, match=r"ends after line 40; expected: NAME<tab>NUMBER<tab>NAME"):
        load_data("lfw", UNRESTRICTED)
    pairs.write_bytes(b"\xff\xfe")
    _key_once.cache_clear()
    with pytest.raises(UserError, match="no text in UTF-8"):
        load_data("lfw", UNRESTRICTED)


def test_overlapping_people_of_view_1_are_refused(lfw):
    people = lfw / "peopleDevTest.txt"
    people.write_text(people.read_text().replace("Set8_Person_0", "Set1_Person_0"))
    with pytest.raises(
        UserError, match=r"'Set1_Person_0' is in .*DevTrain.* nobody may be in both"
    ):
        load_data("lfw", VIEW1)


def test_pairs_of_others_than_the_tested_people_are_refused(lfw):
    pairs = lfw / "pairsDevTest.txt"
    text = pairs.read_text()
    name = text.splitlines()[1].split("\t")[0]
    pairs.write_text(text.replace(f"{name}\t1\t2", "Set1_Person_0\t1\t2", 1))
    with pytest.raises(UserError, match=r"'Set1_Person_0' is not among the people of '.*DevTest"):
        load_data("lfw", VIEW1)


def test_people_kept_out_without_two_images_choose_no_threshold(lfw):
    people = lfw / "peopleDevTrain.txt"
    lines = people.read_text().splitlines()
    people.write_text("\n".join([lines[0], *(f"{x.split(chr(9))[0]}\t1" for x in lines[1:])]))
    with pytest.raises(
        UserError, match="nobody has two images, so that there is no pair to choose"
    ):
        load_data("lfw", VIEW1)


def test_images_that_do_not_decode_are_named(lfw):
    file = lfw / "lfw-deepfunneled/Set4_Person_1/Set4_Person_1_0002.jpg"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"Set4_Person_1_0002.jpg' cannot be decoded"):
        load_data("lfw", UNRESTRICTED)


def test_an_image_twice_and_none_at_all_are_refused(lfw):
    folder = lfw / "lfw-deepfunneled"
    file = folder / "Set4_Person_1/Set4_Person_1_0002.jpg"
    Image.open(file).save(file.with_suffix(".png"))
    with pytest.raises(UserError, match="are one image twice"):
        load_data("lfw", UNRESTRICTED)
    shutil.rmtree(folder)
    folder.mkdir()
    _key_once.cache_clear()
    with pytest.raises(UserError, match=r"lfw-deepfunneled' has no image file; allowed: .*\.jpg"):
        load_data("lfw", UNRESTRICTED)
    Image.new("RGB", (40, 40)).save(folder / "stray.jpg")
    with pytest.raises(UserError, match=r"has no image like NAME/NAME_0001\.jpg"):
        load_data("lfw", UNRESTRICTED)
