"""A loss over a sample of the classes: which are drawn, what moves, and that it says so."""

import math

import pytest
import torch

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.heads import build_head, head_class, head_names
from marginbench.runs.results import row_labels
from marginbench.training.batches import check_batches, check_sample
from marginbench.training.experiment import build_experiment
from marginbench.training.momentum import MomentumSGD
from marginbench.training.optimisers import build_optimiser
from tests.conftest import tiny_cell, train_cell

IN_CHUNKS = [name for name in head_names() if head_class(name).softmax_over_classes]
CLASSES = 40
SAMPLE = Schedule(iterations=8, batch_size=6, evaluations=4)
"""Batches that leave out some of the ten digits."""


def sampled(name, share=0.3, classes=CLASSES, **parameters):
    torch.manual_seed(0)
    head = build_head(name, 6, classes, sampled_classes=share, **parameters).double()
    features = torch.randn(5, 6, dtype=torch.float64)
    return head, features.requires_grad_(), torch.tensor([3, 9, 3, 31, 0])


@pytest.mark.parametrize("name", IN_CHUNKS)
def test_the_loss_is_that_of_a_head_with_the_drawn_classes_alone(name):
    # The default of α follows the number of classes.
    parameters = {"alpha": 8.0} if name == "l2-softmax" else {}
    head, features, labels = sampled(name, **parameters)
    loss = head(features, labels)
    loss.backward()
    gradient = head.weight.grad
    assert gradient.is_sparse
    chosen = gradient._indices()[0]
    assert len(chosen) == math.ceil(0.3 * CLASSES)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert set(labels.tolist()) <= set(chosen.tolist())
    small = build_head(name, 6, len(chosen), chunk=0, **parameters).double()
    with torch.no_grad():
        for key, own in small.named_parameters():
            of_all = head.get_parameter(key)
            own.copy_(of_all[chosen] if of_all.shape[:1] == (CLASSES,) else of_all)
    again = features.detach().clone().requires_grad_()
    expected = small(again, torch.searchsorted(chosen, labels))
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(features.grad, again.grad)
    torch.testing.assert_close(gradient._values(), small.weight.grad)


def test_other_classes_are_drawn_at_each_step_and_none_in_evaluation():
    head, features, labels = sampled("arcface")
    drawn = []
    for _ in range(2):
        head.weight.grad = None
        head(features, labels).backward()
        drawn.append(set(head.weight.grad._indices()[0].tolist()))
    assert drawn[0] != drawn[1]
    whole = build_head("arcface", 6, CLASSES).double()
    whole.load_state_dict(head.state_dict())
    assert torch.equal(head.eval()(features, labels), whole.eval()(features, labels))


def test_a_batch_of_more_classes_than_the_share_has_all_of_its_own():
    head, features, labels = sampled("softmax", share=0.01)
    head(features, labels).backward()
    chosen = head.weight.grad._indices()[0].tolist()
    assert len(chosen) == len(labels)
    assert set(labels.tolist()) <= set(chosen)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_row_moves_as_if_the_others_had_never_been(momentum):
    rows = [[0, 2], [1, 2], [2], [0, 1]]
    start = torch.randn(4, 3)
    weight = start.clone().requires_grad_()
    single = [start[row : row + 1].clone().requires_grad_() for row in range(4)]

    def optimiser_of(params):
        groups = [{"params": params, "weight_decay": 0.1}]
        return MomentumSGD(groups, learning_rate=0.1, momentum=momentum)

    ours, theirs = optimiser_of([weight]), [optimiser_of([one]) for one in single]
    for chosen in rows:
        values = torch.randn(len(chosen), 3)
        weight.grad = torch.sparse_coo_tensor(
            torch.tensor([chosen]), values, (4, 3), check_invariants=False
        )
        ours.step()
        for row, value in zip(chosen, values, strict=True):
            single[row].grad = value[None].clone()
            theirs[row].step()
            single[row].grad = None
    torch.testing.assert_close(weight, torch.cat(single))
    assert torch.equal(weight[3], start[3])
    again = optimiser_of([weight])
    again.load_state_dict(ours.state_dict())
    assert again.state_dict()["state"].keys() == ours.state_dict()["state"].keys()


def test_a_resumed_run_draws_what_an_undisturbed_one_does(tmp_path):
    from marginbench.training.loop import Interrupted

    cell = tiny_cell("arcface", s=8.0, sampled_classes=0.5, schedule=SAMPLE)
    _, first = train_cell(cell, tmp_path / "a")
    counted = iter(range(1, 100))
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "b", should_stop=lambda: next(counted) == 3)
    _, second = train_cell(cell, tmp_path / "b")
    for name in ("history.jsonl", "result.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_it_is_another_experiment_and_says_so_and_all_classes_are_the_same_one():
    exact, approximate = tiny_cell("arcface"), tiny_cell("arcface", sampled_classes=0.5)
    assert tiny_cell("arcface", sampled_classes=1.0, chunk=None).key == exact.key
    assert tiny_cell("arcface", sampled_classes=1.0).to_json() == exact.to_json()
    assert approximate.key != exact.key
    assert tiny_cell("arcface", chunk=4).key != exact.key
    assert row_labels([approximate]) == ["arcface m=0.5 sampled_classes=0.5"]
    assert row_labels([exact]) == ["arcface m=0.5"]


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_the_share_is_checked(share):
    with pytest.raises(UserError, match=f"sampled_classes = {share} is not allowed"):
        build_head("arcface", 6, 5, sampled_classes=share)


@pytest.mark.parametrize("settings", [{"kind": "adamw"}, {"kind": "rmsprop"}, {"clip_norm": 1.0}])
def test_optimisers_that_know_no_rows_alone_are_refused(settings):
    head, _, _ = sampled("arcface")
    with pytest.raises(UserError, match=r"sampled_classes = 0\.3 is not .* allowed: 'sgd', 0"):
        build_optimiser(torch.nn.Linear(2, 6), head, Optimiser(**settings))


@pytest.mark.parametrize("share", [0.01, 0.125, 0.3, 0.9])
def test_the_classes_are_partial_fcs_and_no_fewer_than_the_samples(share):
    labels = torch.tensor([3, 9, 3, 31, 0])
    for seed in range(5):
        head, features, _ = sampled("softmax", share=share)
        torch.manual_seed(seed)
        head(features, labels).backward()
        chosen = head.weight.grad._indices()[0].tolist()
        # The authors' code: random numbers in [0, 1), the labels' above all, the largest taken.
        torch.manual_seed(seed)
        order = torch.rand(CLASSES).tolist()
        own = sorted(set(labels.tolist()))
        rest = sorted(set(range(CLASSES)) - set(own), key=lambda k: -order[k])
        theirs = sorted([*own, *rest][: max(int(share * CLASSES), len(own))])
        if share * CLASSES >= len(labels):
            assert chosen == theirs
        else:
            assert set(theirs) < set(chosen)
            assert len(chosen) == len(labels)


@pytest.mark.parametrize(
    ("share", "size", "refused"),
    [(0.5, 9, False), (0.9, 9, False), (0.5, 10, True), (0.91, 4, True), (1.0, 10, False)],
)
def test_a_sample_of_all_classes_is_refused_before_training(share, size, refused):
    schedule = SAMPLE.model_copy(update={"batch_size": size})
    cell = tiny_cell("arcface", sampled_classes=share, schedule=schedule)
    if not refused:
        check_batches([cell])
        check_sample(cell, 10)
        return
    message = rf"'arcface': sampled_classes = {share} takes all 10 classes .*batch_size = {size};"
    # With all classes first: the check of one cell must not stand for the other's.
    whole = tiny_cell("arcface", schedule=schedule)
    with pytest.raises(UserError, match=message):
        check_batches([whole, cell])
    with pytest.raises(UserError, match=message):
        build_experiment(cell, torch.device("cpu"))
