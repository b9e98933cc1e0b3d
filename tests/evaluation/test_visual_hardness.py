"""Angular visual hardness against its formula, and rank correlations against scipy's."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from marginbench.evaluation.layer_energies import layer_energies
from marginbench.evaluation.visual_hardness import (
    Hardness,
    angular_visual_hardness,
    hardness_of,
    rank_correlation,
    summary,
)
from marginbench.heads import build_head
from marginbench.runs.results import evaluation
from tests.conftest import tiny_cell, train_cell
from tests.regularisers.test_energy import loop_energy


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def angle_between(one, other):
    inner = sum(a * b for a, b in zip(one, other, strict=True))
    return math.acos(inner / math.hypot(*one) / math.hypot(*other))


def test_it_is_the_share_of_the_own_class_in_the_sum_of_angles():
    features, weights, labels = drawn(5, 4), drawn(3, 4, seed=1), torch.tensor([0, 1, 2, 1, 0])
    expected = []
    for row, label in zip(features.tolist(), labels.tolist(), strict=True):
        angles = [angle_between(row, weight) for weight in weights.tolist()]
        expected.append(angles[label] / sum(angles))
    found = angular_visual_hardness(features, weights, labels)
    assert found.tolist() == pytest.approx(expected, rel=1e-10)
    # Whatever the lengths.
    again = angular_visual_hardness(7 * features, weights * torch.tensor([[1], [9], [3]]), labels)
    torch.testing.assert_close(again, found)


def test_the_nearest_of_several_centres_counts():
    features, weights = drawn(4, 3), drawn(2, 3, 3, seed=1)
    labels = torch.tensor([0, 1, 0, 1])
    for row, label, found in zip(
        features.tolist(), labels, angular_visual_hardness(features, weights, labels), strict=True
    ):
        angles = [min(angle_between(row, c) for c in centres) for centres in weights.tolist()]
        assert float(found) == pytest.approx(angles[label] / sum(angles), rel=1e-10)


def test_on_the_own_weight_it_is_nought_and_of_no_direction_one_class_in_k():
    weights = torch.eye(4, dtype=torch.float64)
    features = torch.stack([3 * weights[1], 0 * weights[0]])
    found = angular_visual_hardness(features, weights, torch.tensor([1, 2]))
    assert found.tolist() == pytest.approx([0, 1 / 4])


@pytest.mark.parametrize("ties", [False, True])
def test_the_rank_correlation_is_scipys(ties):
    one, other = drawn(40), drawn(40, seed=1)
    if ties:
        one, other = one.round(), (other > 0).double()
    expected = spearmanr(one.numpy(), other.numpy()).statistic
    assert rank_correlation(one, other) == pytest.approx(expected, rel=1e-12)
    assert rank_correlation(one, torch.ones(40)) is None


def test_the_summary_has_what_is_known():
    wrong = torch.tensor([False, False, True, True])
    hardness = torch.tensor([0.1, 0.2, 0.4, 0.6]).double()
    found = summary(Hardness(hardness, 1 - hardness, torch.ones(4).double(), wrong))
    assert found["visual_hardness"] == pytest.approx(0.325)
    assert found["visual_hardness_right"] == pytest.approx(0.15)
    assert found["visual_hardness_wrong"] == pytest.approx(0.5)
    assert found["hardness_correlation"] == pytest.approx(spearmanr(hardness, wrong).statistic)
    assert found["confidence_correlation"] == -found["hardness_correlation"]
    assert "norm_correlation" not in found
    all_right = summary(Hardness(hardness, hardness, hardness, torch.zeros(4).bool()))
    assert set(all_right) == {"visual_hardness", "visual_hardness_right"}


def test_confidence_and_error_are_those_of_the_logits():
    head = build_head("softmax", 4, 3).double()
    features, labels = drawn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    logits = head.logits(features).detach()
    found = hardness_of(features, head.classifier_weights(), logits, labels)
    for i, row in enumerate(logits.tolist()):
        share = math.exp(row[labels[i]]) / sum(map(math.exp, row))
        assert float(found.confidence[i]) == pytest.approx(share)
        assert bool(found.wrong[i]) == (np.argmax(row) != int(labels[i]))
        assert float(found.norm[i]) == pytest.approx(math.hypot(*features[i].tolist()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run: its history's rows, its arrays and result, and the model at its end."""
    from marginbench.training.trained import load_trained

    result, folder = train_cell(tiny_cell("arcface", m=0.1), tmp_path_factory.mktemp("runs"))
    rows = [json.loads(line) for line in (folder.path / "history.jsonl").read_text().splitlines()]
    return rows, evaluation(folder.path), result, load_trained(folder.path)


def test_each_look_records_hardness_and_the_last_one_is_that_of_the_arrays(trained):
    rows, arrays, result, _ = trained
    assert all({"visual_hardness", "hardness_correlation"} <= row.keys() for row in rows)
    hardness, wrong = arrays["hardness/hardness"], arrays["hardness/wrong"]
    assert rows[-1]["visual_hardness"] == pytest.approx(float(hardness.mean()), rel=1e-5)
    assert result["test_error"] == float(wrong.mean())
    expected = spearmanr(hardness, wrong).statistic
    assert rows[-1]["hardness_correlation"] == pytest.approx(expected, abs=1e-6)
    assert len(arrays["hardness/label"]) == len(hardness) == len(arrays["hardness/norm"])


def test_each_look_records_the_energy_of_every_layer(trained):
    rows, _, _, (backbone, head) = trained
    named = {
        f"energy/{name}": module.weight.detach().flatten(1).double()
        for name, module in backbone.backbone.named_modules()
        if getattr(module, "weight", None) is not None and module.weight.ndim > 1
    } | {"energy/classifier": head.weight.detach().double()}
    assert len(named) == 4
    for name, filters in named.items():
        expected = loop_energy(filters, 2, "euclidean")
        assert rows[-1][name] == pytest.approx(expected, rel=1e-9)
        assert all(name in row for row in rows)


def test_a_layer_of_one_filter_or_of_very_many_has_none():
    layers = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Linear(1, 5000))
    assert list(layer_energies(layers, build_head("softmax", 3, 2))) == ["energy/classifier"]
