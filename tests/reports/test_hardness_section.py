"""Hardness and energy in the report, of runs that are made by hand."""

import json

import numpy as np
import pytest
from marginbench.reports.hardness import hardness
from marginbench.reports.hardness_figures import energy_by_layer, hardness_of_images

from marginbench.runs.results import history
from tests.reports.frames import frame, row, with_history

WRONG = {0: [True, False, False, True], 1: [True, True, False, False]}


@pytest.fixture
def made(tmp_path):
    """Two heads, a run each, four test images of two classes."""
    rows = with_history(
        [row(class_names=["a", "b"]), row("arcface", class_names=["a", "b"])], tmp_path
    )
    for number, values in enumerate(rows):
        path = values["folder"] / "history.jsonl"
        looks = [json.loads(line) for line in path.read_text().splitlines()]
        for factor, look in enumerate(looks, start=1):
            look |= {
                "visual_hardness_right": 0.1 * factor,
                "visual_hardness_wrong": 0.6,
                "hardness_correlation": 0.5 + 0.1 * number,
                "confidence_correlation": -0.25,
                "energy/convolutions.0": 0.5 * factor,
                "energy/linear": 1.5 * factor,
                "energy/classifier": 9.0,
            }
        path.write_text("".join(json.dumps(look) + "\n" for look in looks))
        np.savez(
            values["folder"] / "evaluation.npz",
            **{
                "hardness/hardness": np.array([0.8, 0.2, 0.1, 0.5], dtype=np.float32),
                "hardness/wrong": np.array(WRONG[number]),
                "hardness/label": np.array([0, 0, 1, 1], dtype=np.int32),
            },
        )
    return frame(rows)


def test_the_table_has_the_last_look_of_each_head_in_the_suite_s_order(tmp_path):
    # More rows than a sort that is not stable leaves in their order by chance.
    rows = with_history(
        [row("arcface", seed=seed, label=f"h{seed}") for seed in range(30)], tmp_path
    )
    for number, values in enumerate(rows):
        path = values["folder"] / "history.jsonl"
        looks = [json.loads(line) for line in path.read_text().splitlines()]
        for factor, look in enumerate(looks):
            look["hardness_correlation"] = factor + number / 100
        path.write_text("".join(json.dumps(look) + "\n" for look in looks))
        np.savez(values["folder"] / "evaluation.npz")
    (table,) = hardness(frame(rows)).tables
    assert table.frame["head"].tolist() == [f"h{number}" for number in range(30)]
    last = len(looks) - 1
    assert table.frame["ρ of AVH"].tolist() == [f"{last + n / 100:.3f}" for n in range(30)]


def test_curves_table_and_figures_have_the_recorded_numbers(made):
    content = hardness(made)
    curves, by_class, by_layer = content.figures
    energy = curves.data[curves.data["panel"].str.startswith("Energy")]
    assert energy[energy["label"] == "softmax"]["y"].tolist() == [1.0, 2.0]
    (table,) = content.tables
    cells = table.frame.set_index("head")
    assert cells.loc["softmax", "AVH right"] == "0.200"
    assert cells["ρ of AVH"].tolist() == ["0.500", "0.600"]
    assert cells["ρ of norm"].tolist() == ["–", "–"]
    assert by_class.data.dropna(subset=["class"])["class"].tolist()[:2] == ["a", "b"]
    layers = by_layer.data
    assert layers[layers["label"] == "arcface"]["energy"].tolist() == [1.0, 3.0, 9.0]


def test_energies_are_in_the_heads_own_order_and_of_the_last_look(tmp_path):
    heads = [f"head-{letter}" for letter in "hbxadkczfyegj"]
    rows = with_history([row(head) for head in heads], tmp_path)
    for number, values in enumerate(rows):
        path = values["folder"] / "history.jsonl"
        looks = [json.loads(line) for line in path.read_text().splitlines()]
        for place, look in enumerate(looks):
            look["energy/linear"] = 10.0 * number + place
        path.write_text("".join(json.dumps(look) + "\n" for look in looks))
    found = energy_by_layer(history(frame(rows)))
    assert found["label"].tolist() == heads
    assert found["energy"].tolist() == [10.0 * n + len(looks) - 1 for n in range(len(heads))]


def test_difficulty_is_the_share_of_runs_that_are_wrong(made):
    images = hardness_of_images(made)
    assert images["difficulty"].tolist() == [1.0, 0.5, 0.0, 0.5] * 2
    figure = hardness(made).figures[1]
    shares = figure.data.dropna(subset=["share of runs wrong, %"])
    shares = shares[shares["label"] == "softmax"].set_index("share of runs wrong, %")["AVH"]
    assert shares.to_dict() == pytest.approx({"0": 0.1, "≤ 50": 0.35, "≤ 100": 0.8})


def test_two_classes_of_one_name_are_two_classes(made):
    made["class_names"] = [["cat", "cat"]] * len(made)
    means = hardness_of_images(made).groupby("class")["hardness"].mean()
    assert means.to_dict() == pytest.approx({"cat": 0.5, "cat (2)": 0.3})
    drawn = hardness(made).figures[1].data.dropna(subset=["class"])
    assert sorted(drawn["AVH"].round(6)) == [0.3, 0.3, 0.5, 0.5]


def test_runs_with_other_test_images_have_no_common_difficulty(made):
    folder = made["folder"].iloc[1]
    arrays = dict(np.load(folder / "evaluation.npz")) | {"hardness/label": np.array([1, 0, 1, 1])}
    np.savez(folder / "evaluation.npz", **arrays)
    assert hardness_of_images(made).empty
    assert len(hardness(made).figures) == 2


def test_runs_of_earlier_versions_and_unfinished_ones_show_nothing(tmp_path):
    rows = with_history([row()], tmp_path)
    np.savez(rows[0]["folder"] / "evaluation.npz", class_cosine=np.eye(2))
    for content in (hardness(frame(rows)), hardness(frame([row(state="failed")]))):
        assert (content.tables, content.figures) == ([], [])
    assert energy_by_layer(history(frame(rows))).empty


def test_energies_of_several_decades_have_a_logarithmic_scale(made, tmp_path):
    assert hardness(made).figures[2].figure.axes[0].get_yscale() == "linear"
    path = made["folder"].iloc[0] / "history.jsonl"
    looks = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(look | {"energy/linear": 900.0}) + "\n" for look in looks))
    curves, _, by_layer = hardness(made).figures
    assert by_layer.figure.axes[0].get_yscale() == "log"
    assert [axis.get_yscale() for axis in curves.figure.axes][3] == "log"
