"""The batch order: drawn ahead, the same for all heads, whole epochs, pairs where asked for."""

import pytest
import torch

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.training.batches import check_batches, check_pairs, draw_batches
from tests.conftest import tiny_cell

LABELS = torch.arange(10).repeat_interleave(7)


def test_shuffled_batches_show_every_image_once_an_epoch():
    schedule = Schedule(iterations=21, batch_size=10, evaluations=1)
    order = draw_batches(LABELS, schedule, seed=0).flatten()
    for epoch in order.view(3, 70):
        assert sorted(epoch.tolist()) == list(range(70))
    assert order[:70].tolist() != order[70:140].tolist()


def test_the_order_depends_on_the_seed_alone():
    schedule = Schedule(iterations=5, batch_size=8, evaluations=1)
    first, again, other = (draw_batches(LABELS, schedule, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_longer_run_begins_like_a_shorter_one():
    short, long = (
        draw_batches(LABELS, Schedule(iterations=n, batch_size=8, evaluations=1), seed=1)
        for n in (5, 50)
    )
    assert torch.equal(short, long[:5])


def test_pair_batches_hold_classes_times_samples():
    schedule = Schedule(
        iterations=30, batch_size=12, evaluations=1, sampling="pairs", samples_per_class=3
    )
    for batch in draw_batches(LABELS, schedule, seed=0):
        assert len(set(batch.tolist())) == 12
        values, counts = LABELS[batch.long()].unique(return_counts=True)
        assert len(values) == 4
        assert counts.tolist() == [3] * 4


def test_a_small_class_gives_images_twice_and_a_lone_image_never():
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    schedule = Schedule(
        iterations=20, batch_size=8, evaluations=1, sampling="pairs", samples_per_class=4
    )
    batches = draw_batches(labels, schedule, seed=0)
    assert set(labels[batches.long()].unique().tolist()) == {0, 2}


@pytest.mark.parametrize(("size", "samples"), [(10, 4), (60, 4)])
def test_pairs_that_cannot_be_drawn_are_refused(size, samples):
    schedule = Schedule(
        iterations=2, batch_size=size, evaluations=1, sampling="pairs", samples_per_class=samples
    )
    with pytest.raises(UserError, match=f"schedule.batch_size = {size}"):
        draw_batches(LABELS, schedule, seed=0)


def test_a_pair_loss_without_pairs_is_refused():
    labels, schedule = torch.arange(1000), Schedule(iterations=9, batch_size=8, evaluations=1)
    with pytest.raises(UserError, match=r"'contrastive'.*100%.*sampling = 'pairs'"):
        check_pairs(labels, schedule, "contrastive")
    check_pairs(labels % 2, schedule, "contrastive")


@pytest.mark.parametrize("size", range(14, 26))
def test_whether_batches_have_pairs_depends_on_no_seed(size):
    # Around these sizes a tenth of the batches is without a pair, in some draws more, in some less.
    labels = torch.arange(600) % 60
    schedule = Schedule(iterations=40, batch_size=size, evaluations=1)
    refused = set()
    for seed in range(50):
        shuffled = labels[torch.randperm(600, generator=torch.Generator().manual_seed(seed))]
        try:
            check_pairs(shuffled, schedule, "contrastive")
            refused.add(False)
        except UserError:
            refused.add(True)
    assert len(refused) == 1


def test_a_pair_loss_without_pairs_is_refused_before_any_cell_is_trained():
    schedule = Schedule(iterations=20, batch_size=2)
    cells = [tiny_cell(head, schedule=schedule) for head in ("softmax", "contrastive")]
    check_batches(cells[:1])
    with pytest.raises(UserError, match="'contrastive' learns from pairs"):
        check_batches(cells)


def test_balanced_batches_show_every_class_equally_often_and_every_image_in_turn():
    labels = torch.tensor([0] * 1 + [1] * 5 + [2] * 30 + [3] * 4)
    schedule = Schedule(iterations=25, batch_size=8, evaluations=1, sampling="balanced")
    order = draw_batches(labels, schedule, seed=0).flatten()
    assert order.dtype == torch.int32
    assert torch.bincount(labels[order.long()]).tolist() == [50] * 4
    for round_of_classes in labels[order.long()].view(50, 4):
        assert sorted(round_of_classes.tolist()) == [0, 1, 2, 3]
    shown = torch.bincount(order.long(), minlength=40)
    assert shown[0] == 50
    assert shown[1:6].tolist() == [10] * 5
    assert sorted(set(shown[6:36].tolist())) == [1, 2]
    assert set(shown[36:].tolist()) == {12, 13}


def test_balanced_batches_depend_on_the_seed_alone_and_break_off_a_round():
    schedule = Schedule(iterations=3, batch_size=7, evaluations=1, sampling="balanced")
    first, again, other = (draw_batches(LABELS, schedule, seed) for seed in (3, 3, 4))
    assert first.shape == (3, 7)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
