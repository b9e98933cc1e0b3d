"""Omniglot in tiny files of its form: alphabets decide who is trained on and who is tested."""

import numpy as np
import pytest
import torch
from PIL import Image

from marginbench.data import OneShotRun, OneShotTask, data_content, load_data
from marginbench.errors import UserError
from marginbench.evaluation.one_shot import one_shot
from marginbench.plugins.component import Component

CHARACTERS, DRAWINGS = 2, 4


def write_alphabets(folder, *names, start=0):
    """Characters of an alphabet; a character's drawings have a number of ink pixels of its own."""
    for a, name in enumerate(names):
        for c in range(1, CHARACTERS + 1):
            character = folder / name / f"character{c:02}"
            character.mkdir(parents=True)
            for d in range(DRAWINGS):
                pixels = np.full((105, 105), 255, dtype=np.uint8)
                pixels[10 * (start + a) : 10 * (start + a) + 9, : 20 * c + d] = 0
                Image.fromarray(pixels).convert("1").save(character / f"{c:04}_{d + 1:02}.png")


def write_runs(folder, ways=3):
    """Two runs, in each of which test item k is of class W + 1 − k."""
    for run in ("run01", "run02"):
        lines = []
        for kind in ("training", "test"):
            (folder / run / kind).mkdir(parents=True)
        for number in range(1, ways + 1):
            test, known = f"{run}/test/item{number:02}.png", f"class{ways + 1 - number:02}.png"
            lines.append(f"{test} {run}/training/{known}")
            for name, shade in ((test, number), (f"{run}/training/{known}", number)):
                Image.fromarray(np.full((105, 105), shade, dtype=np.uint8)).save(folder / name)
        (folder / run / "class_labels.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def official(root):
    folder = root / "omniglot-py"
    write_alphabets(folder / "images_background", "Greek", "Latin")
    write_alphabets(folder / "images_evaluation", "Atlantean", "Tengwar", start=4)
    return folder


def test_the_background_set_is_trained_on_and_the_evaluation_set_tested(official):
    data = load_data("omniglot", {"size": 105})
    names = ("Greek/character01", "Greek/character02", "Latin/character01", "Latin/character02")
    assert data.class_names == names
    assert data.image_shape == (1, 105, 105)
    assert (len(data.train_images), len(data.test_images)) == (16, 0)
    (pairs,) = data.verification
    assert len(pairs.images) == 16
    # Ink lies in the rows of an alphabet, as many columns wide as the character says.
    ink = (data.train_images[:, 0] == 0).any(dim=2)
    assert not ink[:, 20:].any()
    assert not (pairs.images[:, 0, :40] == 0).any()
    width = (data.train_images[:, 0] == 0).any(dim=1).sum(dim=1)
    assert torch.equal(data.train_labels % 2, (width >= 40).long())
    assert data.one_shot is None


def test_named_alphabets_are_tested(official):
    data = load_data("omniglot", {"tested": ["Greek", "Tengwar"]})
    assert {name.split("/")[0] for name in data.class_names} == {"Atlantean", "Latin"}
    assert data.image_shape == (1, 28, 28)
    for wrong in (["Runes"], ["Greek", "Latin", "Atlantean", "Tengwar"]):
        with pytest.raises(UserError, match=r"tested = .*Atlantean, Greek, Latin, Tengwar"):
            load_data("omniglot", {"tested": wrong})


def test_the_minimal_sets_are_one_and_what_both_have_counts_once(root):
    with pytest.raises(UserError, match="neither 'images_background_small1' nor"):
        load_data("omniglot", {"sets": "minimal"})
    write_alphabets(root / "omniglot" / "images_background_small1", "Greek", "Korean", "Balinese")
    write_alphabets(root / "omniglot" / "images_background_small2", "Greek", "Sanskrit", "Tagalog")
    data = load_data("omniglot", {"sets": "minimal"})
    assert {name.split("/")[0] for name in data.class_names} == {"Balinese", "Greek"}
    assert len(data.train_images) == 2 * CHARACTERS * DRAWINGS
    assert len(data.verification[0].images) == 3 * CHARACTERS * DRAWINGS


def test_sets_that_are_not_there_and_files_elsewhere_are_refused(official, root):
    (official / "images_background" / "Greek" / "stray.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"stray.png' is not in a character's folder"):
        load_data("omniglot", {})
    (official / "images_background").rename(root / "elsewhere")
    (official / "images_evaluation").rename(root / "elsewhere too")
    official.rmdir()
    with pytest.raises(UserError, match="could not be downloaded"):
        load_data("omniglot", {})


def test_the_official_runs_are_read_and_scored(official):
    before = data_content(Component(name="omniglot"))
    write_runs(official / "all_runs")
    task = load_data("omniglot", {}).one_shot
    assert [run.name for run in task.runs] == ["run01", "run02"]
    assert task.images.shape == (12, 1, 28, 28)
    # Every tested image has the shade of its class's.
    shade = task.images[:, 0, 0, 0]
    for run in task.runs:
        assert torch.equal(shade[run.tested], shade[run.known[run.answers]])
        assert run.answers.tolist() == [2, 1, 0]
    assert data_content(Component(name="omniglot")) != before
    # Trained on what the runs consist of, the task is none.
    assert load_data("omniglot", {"tested": ["Greek"]}).one_shot is None
    labels = official / "all_runs" / "run02" / "class_labels.txt"
    labels.write_text("run02/test/item01.png\n")
    with pytest.raises(UserError, match=r"class_labels.txt', line 1: .*run02/test/item01.png"):
        load_data("omniglot", {})


def test_one_shot_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 3, generator=generator)
    runs = tuple(
        OneShotRun(
            name=str(number),
            known=torch.arange(start, start + 4),
            tested=torch.arange(start + 4, start + 10),
            answers=torch.tensor([0, 1, 2, 3, 0, 1]),
        )
        for number, start in enumerate((0, 10))
    )
    task = OneShotTask(torch.zeros(20, 1, 2, 2, dtype=torch.uint8), runs)
    expected = []
    for run in runs:
        right = 0
        for image, answer in zip(run.tested.tolist(), run.answers.tolist(), strict=True):
            cosines = [
                float(torch.cosine_similarity(features[image], features[k], dim=0))
                for k in run.known.tolist()
            ]
            right += cosines.index(max(cosines)) == answer
        expected.append(right / 6)
    found = one_shot(features, task)
    assert found.runs == pytest.approx(expected)
    assert found.accuracy == pytest.approx(sum(expected) / 2)
    assert found.ways == (4, 4)
    assert one_shot(torch.zeros(20, 3), task).accuracy == 0
