"""LFW by its own protocols: who is trained on, who is tested."""

import multiprocessing
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from marginbench.data import load_data, resolve_data_parameters
from marginbench.data.files.content import _key_once
from marginbench.errors import UserError
from tests.data.lfw_files import UNRESTRICTED, VIEW1, people_of_set, write_lfw


def people_verified(data):
    (pairs,) = data.verification
    return {name.rsplit(" ", 1)[0] for name in pairs.image_names}


def trained_images(data):
    return {image.numpy().tobytes() for image in data.train_images}


@pytest.mark.parametrize(("tested", "count"), [(1, 1), (4, 2), (9, 3), (10, 8)])
def test_nobody_of_the_tested_and_the_choosing_sets_is_trained_on(lfw, tested, count):
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


def test_the_tested_pairs_are_the_files_in_their_order(lfw):
    data = load_data("lfw", UNRESTRICTED | {"tested_set": 3})
    (pairs,) = data.verification
    assert not pairs.may_be_shown
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
    with Image.open(lfw / "lfw-deepfunneled/Set3_Person_2/Set3_Person_2_0002.jpg") as image:
        cut = image.crop((4, 4, 36, 36)).resize((16, 16), Image.Resampling.BILINEAR)
    number = pairs.image_names.index("Set3_Person_2 2")
    assert np.array_equal(pairs.images[number], np.asarray(cut).transpose(2, 0, 1))


def test_all_images_of_those_trained_on_and_no_test_images(lfw):
    data = load_data("lfw", UNRESTRICTED)
    counts = {name: c for number in range(3, 11) for name, c in people_of_set(number).items()}
    assert data.class_names == tuple(sorted(counts))
    assert torch.bincount(data.train_labels).tolist() == [counts[n] for n in data.class_names]
    assert data.train_images.shape == (sum(counts.values()), 3, 16, 16)
    assert data.test_images.shape == (0, 3, 16, 16)
    assert len(data.test_labels) == 0
    assert "trained on the people of sets 3, 4, 5, 6, 7, 8, 9 and 10" in data.remarks[0]
    assert "threshold chosen on those of set 2" in data.verification[0].description


def test_people_with_few_images_and_all_but_the_most_are_left_out(lfw):
    several = load_data("lfw", UNRESTRICTED | {"minimum_images": 3})
    assert torch.bincount(several.train_labels).min() == 3
    most = load_data("lfw", UNRESTRICTED | {"train_people": 4})
    assert torch.bincount(most.train_labels).tolist() == [4] * 4
    with pytest.raises(UserError, match="minimum_images = 5 is not allowed: of 40 people 0"):
        load_data("lfw", UNRESTRICTED | {"minimum_images": 5})
    with pytest.raises(UserError, match="train_people = 41 is not allowed; allowed: None, or 2 to"):
        load_data("lfw", UNRESTRICTED | {"train_people": 41})


def test_view_1_keeps_out_people_to_choose_the_threshold(lfw):
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


def test_every_protocol_fold_and_head_shares_one_cache(lfw, tmp_path, monkeypatch):
    load_data("lfw", UNRESTRICTED)
    monkeypatch.setattr("marginbench.data.sources.lfw_images.decode_image", None)
    for number in range(2, 11):
        load_data("lfw", UNRESTRICTED | {"tested_set": number})
    load_data("lfw", VIEW1)
    assert len(list((tmp_path / "cache" / "decoded").glob("*.npy"))) == 1


def _load(queue):
    data = load_data("lfw", UNRESTRICTED)
    queue.put(int(data.train_images.sum()))


def test_processes_that_start_at_once_agree(lfw, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_load, args=(queue,)) for _ in range(3)]
    for process in processes:
        process.start()
    sums = {queue.get(timeout=900) for _ in processes}
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


def test_several_image_folders_are_a_question(lfw):
    shutil.copytree(lfw / "lfw-deepfunneled", lfw / "lfw")
    with pytest.raises(UserError, match=r"several folders of images: lfw, lfw-deep.*images = "):
        load_data("lfw", UNRESTRICTED)
    assert load_data("lfw", UNRESTRICTED | {"images": "lfw"}).num_classes == 40
    with pytest.raises(UserError, match=r"images = 'lfw_funneled' is not allowed, as .* has lfw, "):
        load_data("lfw", UNRESTRICTED | {"images": "lfw_funneled"})
    shutil.rmtree(lfw / "lfw")
    shutil.rmtree(lfw / "lfw-deepfunneled")
    with pytest.raises(UserError, match="has no folder of images; it must hold one of lfw, lfw_fu"):
        load_data("lfw", UNRESTRICTED)


def test_the_central_crop_of_a_central_crop_is_the_same(lfw, root):
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


def test_grey_images(lfw):
    assert load_data("lfw", UNRESTRICTED | {"colour": "grey"}).image_shape == (1, 16, 16)


def test_the_content_is_of_images_and_protocol_files(lfw):
    given = resolve_data_parameters("lfw", UNRESTRICTED)
    same = resolve_data_parameters("lfw", UNRESTRICTED | {"tested_set": 2})
    assert given["content"] == same["content"]
    assert given["content"] != resolve_data_parameters("lfw", VIEW1)["content"]
    people = lfw / "people.txt"
    people.write_text(people.read_text().replace("Set1_Person_0\t2", "Set1_Person_0\t1"))
    with pytest.raises(UserError, match=r"people.txt'.* the files have changed since"):
        load_data("lfw", given)
    shutil.rmtree(lfw)
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
def test_parameters_that_do_not_fit_are_refused(lfw, given, words):
    with pytest.raises(UserError, match=words):
        load_data("lfw", given)
