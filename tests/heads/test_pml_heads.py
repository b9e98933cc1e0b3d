"""The losses of pytorch-metric-learning as heads: the same values, and how they are tested."""

import pytest
import torch
from pytorch_metric_learning import losses, miners
from torch.nn.functional import normalize

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.grids import parse_component
from marginbench.heads import build_head, head_class
from marginbench.heads.pml import _losses
from marginbench.runs.deciding_code import deciding_code
from marginbench.testing import CheckFailure, head_checks
from marginbench.training.experiment import build_experiment
from tests.conftest import tiny_cell, train_cell

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pytorch_metric_learning")

NEEDED = {
    "RankedListLoss": {"margin": 0.4, "Tn": 10.0},
    "HistogramLoss": {"n_bins": 20},
}
NAMES = sorted(_losses(losses))
CHECKS = (
    *("inputs", "edges", "half precision", "evaluation", "state round trip"),
    *("unknown parameters", "test logits"),
)
LOGITS_CHECKS = ("gradients", "trained weights", "learning")
"""Of the losses that have logits. What is left of the kit asks for a mean over samples that know
nothing of one another, for parameters that the library's pair losses do not have, or for a cost."""
FAILING_EDGES = {
    "HistogramLoss": "index .* is out of bounds",
    "SignalToNoiseRatioContrastiveLoss": "the loss is inf at one feature vector zero",
    "TupletMarginLoss": "the loss is nan at all feature vectors equal",
}
"""The library's own, to be known when one of them diverges."""


def batch(classes=4, each=4, dimensions=8):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(classes * each, dimensions, generator=generator)
    return features, torch.arange(classes * each) % classes


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_are_the_librarys(name):
    given = NEEDED.get(name, {})
    torch.manual_seed(1)
    head = build_head(f"pml:{name}", 8, 4, **given)
    theirs = getattr(losses, name)(**sizes(name), **given)
    theirs.load_state_dict(head.metric_loss.state_dict())
    features, labels = batch()
    found = []
    for loss in (head, theirs):
        leaf = features.clone().requires_grad_()
        torch.manual_seed(2)
        value = loss(leaf, labels)
        value.backward()
        found.append((value.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert head.logits(features).shape == (16, 4)


def sizes(name):
    has_classes = not head_class(f"pml:{name}").needs_pairs
    return {"num_classes": 4, "embedding_size": 8} if has_classes else {}


@pytest.mark.parametrize("name", NAMES)
def test_the_kit_holds_of_them_where_they_promise_what_it_asks(name):
    """Means over batches and margins that are off in testing are not theirs to promise."""
    has_logits = not head_class(f"pml:{name}").tested_by_class_means
    held = {*CHECKS, *(LOGITS_CHECKS if has_logits else ())}
    checks = [c for c in head_checks(f"pml:{name}", **NEEDED.get(name, {})) if c.name in held]
    assert {check.name for check in checks} == held
    for check in checks:
        if check.name == "edges" and name in FAILING_EDGES:
            with pytest.raises(CheckFailure, match=FAILING_EDGES[name]):
                check()
        else:
            check()


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(getattr(losses, n), "get_logits")])
def test_logits_tell_apart_what_was_learnt(name):
    torch.manual_seed(0)
    head = build_head(f"pml:{name}", 8, 4)
    features, labels = torch.eye(8)[:4].repeat(4, 1) * 4, torch.arange(4).repeat(4)
    assert [key for key, _ in head.named_parameters()]
    optimiser = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(60):
        optimiser.zero_grad()
        head(features, labels).backward()
        optimiser.step()
    assert torch.equal(head.logits(features).argmax(dim=1), labels)


def test_a_miner_chooses_the_pairs():
    features, labels = batch()
    head = build_head("pml:TripletMarginLoss", 8, 4, miner="BatchHardMiner", margin=0.3)
    mined = miners.BatchHardMiner()(features, labels)
    expected = losses.TripletMarginLoss(margin=0.3)(features, labels, mined)
    assert head(features, labels).item() == expected.item()
    assert build_head("pml:TripletMarginLoss", 8, 4, margin=0.3)(features, labels) != expected


def test_a_loss_without_logits_is_tested_by_the_nearest_class_mean(tmp_path):
    schedule = Schedule(iterations=12, batch_size=32, evaluations=2, sampling="pairs")
    cell = tiny_cell("pml:MultiSimilarityLoss", schedule=schedule, miner="MultiSimilarityMiner")
    assert deciding_code(cell).libraries["pytorch-metric-learning"]
    assert "pytorch-metric-learning" not in deciding_code(tiny_cell()).libraries
    result, folder = train_cell(cell, tmp_path)
    assert result["tested_by_class_means"]
    experiment = build_experiment(cell, torch.device("cpu"))
    state = torch.load(folder.checkpoint, weights_only=True)
    experiment.backbone.load_state_dict(state["backbone"])
    experiment.backbone.eval()
    with torch.no_grad():
        train, test = (
            normalize(experiment.features(images).double())
            for images in (experiment.train_images, experiment.test_images)
        )
    labels = experiment.train_labels
    means = torch.stack([train[labels == k].mean(dim=0) for k in range(10)])
    nearest = (test @ normalize(means).T).argmax(dim=1)
    expected = (nearest != experiment.test_labels).double().mean().item()
    assert result["test_error"] == pytest.approx(expected, abs=2 / len(nearest))
    assert 0 < expected < 0.9


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("MultiSimilartyLoss", {}, "has no loss 'MultiSimilartyLoss' .* MultiSimilarityLoss"),
        ("CrossBatchMemory", {}, "has no loss 'CrossBatchMemory'"),
        ("ProxyAnchorLoss", {"m": 1}, "has no parameter 'm'; its parameters: margin, alpha, miner"),
        ("ProxyAnchorLoss", {"margin": "x"}, "margin = 'x' is not allowed; allowed: number"),
        ("RankedListLoss", {}, "needs its parameter 'margin'"),
        ("SoftTripleLoss", {"gamma": 0}, r"does not allow .*gamma = 0\.0.*division by zero"),
        ("NCALoss", {"miner": "BestMiner"}, "miner = 'BestMiner' .*MultiSimilarityMiner"),
    ],
)
def test_what_cannot_be_is_refused(name, given, words):
    with pytest.raises(UserError, match=words):
        build_head(f"pml:{name}", 8, 4, **given)


def test_a_shell_names_them_with_their_family():
    part = parse_component("pml:ProxyAnchorLoss:margin=0.2,alpha=16")
    assert (part.name, part.parameters) == ("pml:ProxyAnchorLoss", {"margin": 0.2, "alpha": 16})
    assert parse_component("pml:NCALoss").name == "pml:NCALoss"
