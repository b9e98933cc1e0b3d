"""LFW by its own protocols: who is trained on, who is tested, and every file that is not right."""

import multiprocessing
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from marginbench.data import load_data, resolve_data_parameters
from marginbench.data.files.content import _key_once
from marginbench.errors import UserError
from tests.data.lfw_files import people_of_set, write_lfw

SMALL = {"crop": 32, "size": 16}
UNRESTRICTED = {"protocol": "unrestricted", "tested_set": 1, **SMALL}
VIEW1 = {"protocol": "view1", "threshold_share": 0.3, **SMALL}


@pytest.fixture(autouse=True)
def _fresh_process():
    _key_once.cache_clear()


@pytest.fixture
def place(root):
    return write_lfw(root / "lfw")


def people_verified(data):
    (pairs,) = data.verification
    return {name.rsplit(" ", 1)[0] for name in pairs.image_names}


def trained_images(data):
    return {image.numpy().tobytes() for image in data.train_images}


@pytest.mark.parametrize(("tested", "count"), [(1, 1), (4, 2), (9, 3), (10, 8)])
def test_nobody_of_the_tested_and_the_choosing_sets_is_trained_on(place, tested, count):
    given = UNRESTRICTED | {"tested_set": tested, "threshold_sets": count}
    data = load_data("lfw", given)
    (pairs,) = data.verification
    choosing = [(tested + step) % 10 + 1 for step in range(count)]
    kept_out = {name for number in [tested, *choosing] for name in people_of_set(number)}
    expected = {name for number in range(1, 11) for name in people_of_set(number)} - kept_out
    assert set(data.class_names) == expected
    assert people_verified(data) <= kept_out
    assert pairs.tested_folds == (tested - 1,)
    assert set(pairs.fold.tolist()) == {number - 1 for number in [tested, *choosing]}
    # Not only by name: no image that is verified was trained on.
    assert not trained_images(data) & {image.numpy().tobytes() for image in pairs.images}


def test_the_tested_pairs_are_the_files_in_their_order(place):
    data = load_data("lfw", UNRESTRICTED | {"tested_set": 3})
    (pairs,) = data.verification
    names = [
        (pairs.image_names[i], pairs.image_names[j], bool(s))
        for i, j, s, f in zip(pairs.first, pairs.second, pairs.same, pairs.fold, strict=True)
        if f == 2
    ]
    assert names == [
        ("Set3_Person_0 1", "Set3_Person_0 2", True),
        ("Set3_Person_2 1", "Set3_Person_2 2", True),
        ("Set3_Person_0 1", "Set3_Person_1 1", False),
        ("Set3_Person_2 1", "Set3_Person_3 1", False),
    ]
    people = pairs.people
    assert torch.equal(people[pairs.first] == people[pairs.second], pairs.same)
    with Image.open(place / "lfw-deepfunneled/Set3_Person_2/Set3_Person_2_0002.jpg") as image:
        cut = image.crop((4, 4, 36, 36)).resize((16, 16), Image.Resampling.BILINEAR)
    number = pairs.image_names.index("Set3_Person_2 2")
    assert np.array_equal(pairs.images[number], np.asarray(cut).transpose(2, 0, 1))


def test_all_images_of_those_trained_on_and_no_test_images(place):
    data = load_data("lfw", UNRESTRICTED)
    counts = {name: c for number in range(3, 11) for name, c in people_of_set(number).items()}
    assert data.class_names == tuple(sorted(counts))
    assert torch.bincount(data.train_labels).tolist() == [counts[n] for n in data.class_names]
    assert data.train_images.shape == (sum(counts.values()), 3, 16, 16)
    assert data.test_images.shape == (0, 3, 16, 16)
    assert len(data.test_labels) == 0
    assert "trained on the people of sets 3, 4, 5, 6, 7, 8, 9 and 10" in data.remarks[0]
    assert "threshold chosen on those of set 2" in data.verification[0].description


def test_people_with_few_images_and_all_but_the_most_are_left_out(place):
    several = load_data("lfw", UNRESTRICTED | {"minimum_images": 3})
    assert torch.bincount(several.train_labels).min() == 3
    most = load_data("lfw", UNRESTRICTED | {"train_people": 4})
    assert torch.bincount(most.train_labels).tolist() == [4] * 4
    with pytest.raises(UserError, match="minimum_images = 5 is not allowed: of 40 people 0"):
        load_data("lfw", UNRESTRICTED | {"minimum_images": 5})
    with pytest.raises(UserError, match="train_people = 41 is not allowed; allowed: None, or 2 to"):
        load_data("lfw", UNRESTRICTED | {"train_people": 41})


def test_view_1_keeps_out_people_to_choose_the_threshold(place):
    data = load_data("lfw", VIEW1)
    (pairs,) = data.verification
    verified = {
        fold: {
            pairs.image_names[i].rsplit(" ", 1)[0]
            for side in (pairs.first, pairs.second)
            for i in side[pairs.fold == fold]
        }
        for fold in (0, 1)
    }
    train = {name for number in range(1, 8) for name in people_of_set(number)}
    test = {name for number in range(8, 11) for name in people_of_set(number)}
    assert pairs.tested_folds == (1,)
    assert verified[1] <= test
    assert verified[0] <= train
    assert set(data.class_names) <= train - verified[0]
    assert len(data.class_names) == len(train) - round(0.3 * len(train))
    choosing = pairs.fold == 0
    assert pairs.same[choosing].sum() * 2 == choosing.sum()
    drawn = {
        frozenset((i, j))
        for i, j in zip(
            pairs.first[choosing].tolist(), pairs.second[choosing].tolist(), strict=True
        )
    }
    assert len(drawn) == choosing.sum()
    assert all(len(pair) == 2 for pair in drawn)
    again = load_data("lfw", VIEW1).verification[0]
    assert torch.equal(again.first, pairs.first)


def test_every_protocol_fold_and_head_shares_one_cache(place, tmp_path, monkeypatch):
    load_data("lfw", UNRESTRICTED)
    monkeypatch.setattr("marginbench.data.sources.lfw_images.decode_image", None)
    for number in range(2, 11):
        load_data("lfw", UNRESTRICTED | {"tested_set": number})
    load_data("lfw", VIEW1)
    assert len(list((tmp_path / "cache" / "decoded").glob("*.npy"))) == 1


def _load(queue):
    data = load_data("lfw", UNRESTRICTED)
    queue.put(int(data.train_images.sum()))


def test_processes_that_start_at_once_agree(place, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_load, args=(queue,)) for _ in range(3)]
    for process in processes:
        process.start()
    sums = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {int(load_data("lfw", UNRESTRICTED).train_images.sum())}
    decoded = list((tmp_path / "cache" / "decoded").iterdir())
    assert sorted(path.suffix for path in decoded) == [".lock", ".npy"]


@pytest.mark.parametrize("images", ["lfw", "lfw_funneled", "lfw-funneled", "lfw-deepfunneled"])
def test_each_archive_is_found_as_it_unpacks(root, images):
    write_lfw(root / "faces", images=images)
    data = load_data("lfw", UNRESTRICTED | {"name": "faces"})
    assert data.num_classes == 40


def test_several_image_folders_are_a_question(place):
    shutil.copytree(place / "lfw-deepfunneled", place / "lfw")
    with pytest.raises(UserError, match=r"several folders of images: lfw, lfw-deep.*images = "):
        load_data("lfw", UNRESTRICTED)
    assert load_data("lfw", UNRESTRICTED | {"images": "lfw"}).num_classes == 40
    with pytest.raises(UserError, match=r"images = 'lfw_funneled' is not allowed, as .* has lfw, "):
        load_data("lfw", UNRESTRICTED | {"images": "lfw_funneled"})
    shutil.rmtree(place / "lfw")
    shutil.rmtree(place / "lfw-deepfunneled")
    with pytest.raises(UserError, match="has no folder of images; it must hold one of lfw, lfw_fu"):
        load_data("lfw", UNRESTRICTED)


def test_the_central_crop_of_a_central_crop_is_the_same(place, root):
    small = write_lfw(root / "small", size=(40, 40))
    for file in (root / "lfw").rglob("*.jpg"):
        image = Image.open(file).convert("RGB")
        (small / file.relative_to(root / "lfw")).unlink()
        whole = (small / file.relative_to(root / "lfw")).with_suffix(".png")
        cut = Image.new("RGB", (250, 250))
        cut.paste(image, (105, 105))
        cut.save(whole)
        image.save(file.with_suffix(".png"))
        file.unlink()
    _key_once.cache_clear()
    one = load_data("lfw", UNRESTRICTED)
    other = load_data("lfw", UNRESTRICTED | {"name": "small"})
    assert torch.equal(one.train_images, other.train_images)


def test_grey_images(place):
    assert load_data("lfw", UNRESTRICTED | {"colour": "grey"}).image_shape == (1, 16, 16)


def test_the_content_is_of_images_and_protocol_files(place):
    given = resolve_data_parameters("lfw", UNRESTRICTED)
    same = resolve_data_parameters("lfw", UNRESTRICTED | {"tested_set": 2})
    assert given["content"] == same["content"]
    assert given["content"] != resolve_data_parameters("lfw", VIEW1)["content"]
    people = place / "people.txt"
    people.write_text(people.read_text().replace("Set1_Person_0\t2", "Set1_Person_0\t1"))
    with pytest.raises(UserError, match=r"people.txt'.* the files have changed since"):
        load_data("lfw", given)
    shutil.rmtree(place)
    assert resolve_data_parameters("lfw", given) == given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"protocol": "view2"}, "protocol = 'view2' is not allowed"),
        ({"protocol": "unrestricted"}, "needs its parameter 'tested_set'"),
        ({"protocol": "unrestricted", "tested_set": 11}, "tested_set = 11 is not allowed"),
        ({**UNRESTRICTED, "threshold_sets": 9}, "threshold_sets = 9 is not allowed"),
        ({**UNRESTRICTED, "threshold_share": 0.2}, "threshold_share = 0.2 is not allowed with"),
        ({**VIEW1, "tested_set": 1}, "tested_set = 1 is not allowed with protocol = 'view1'"),
        ({**VIEW1, "threshold_sets": 2}, "threshold_sets = 2 is not allowed with"),
        ({**VIEW1, "threshold_share": 0.01}, "it keeps 0 of 35 people out of training"),
        (
            {**UNRESTRICTED, "crop": 41},
            "is 40×40 pixels, too small for a crop of 41; allowed: up to 40",
        ),
        ({**UNRESTRICTED, "name": "nowhere"}, "nowhere' does not exist"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(place, given, words):
    with pytest.raises(UserError, match=words):
        load_data("lfw", given)


def test_missing_protocol_files_are_named(place):
    (place / "pairs.txt").unlink()
    with pytest.raises(UserError, match=r"lacks pairs\.txt; protocol = 'unrestricted' needs"):
        load_data("lfw", UNRESTRICTED)
    (place / "peopleDevTest.txt").unlink()
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
def test_lines_that_are_not_right_are_named(place, file, old, new, words):
    text = (place / file).read_text()
    assert old in text
    (place / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        load_data("lfw", UNRESTRICTED)


def test_files_that_end_too_soon_or_too_late_are_named(place):
    pairs = place / "pairs.txt"
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


def test_overlapping_people_of_view_1_are_refused(place):
    people = place / "peopleDevTest.txt"
    people.write_text(people.read_text().replace("Set8_Person_0", "Set1_Person_0"))
    with pytest.raises(
        UserError, match=r"'Set1_Person_0' is in .*DevTrain.* nobody may be in both"
    ):
        load_data("lfw", VIEW1)


def test_pairs_of_others_than_the_tested_people_are_refused(place):
    pairs = place / "pairsDevTest.txt"
    text = pairs.read_text()
    name = text.splitlines()[1].split("\t")[0]
    pairs.write_text(text.replace(f"{name}\t1\t2", "Set1_Person_0\t1\t2", 1))
    with pytest.raises(UserError, match=r"'Set1_Person_0' is not among the people of '.*DevTest"):
        load_data("lfw", VIEW1)


def test_people_kept_out_without_two_images_choose_no_threshold(place):
    people = place / "peopleDevTrain.txt"
    lines = people.read_text().splitlines()
    people.write_text("\n".join([lines[0], *(f"{x.split(chr(9))[0]}\t1" for x in lines[1:])]))
    with pytest.raises(
        UserError, match="nobody has two images, so that there is no pair to choose"
    ):
        load_data("lfw", VIEW1)


def test_images_that_do_not_decode_are_named(place):
    file = place / "lfw-deepfunneled/Set4_Person_1/Set4_Person_1_0002.jpg"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"Set4_Person_1_0002.jpg' cannot be decoded"):
        load_data("lfw", UNRESTRICTED)


def test_an_image_twice_and_none_at_all_are_refused(place):
    folder = place / "lfw-deepfunneled"
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
