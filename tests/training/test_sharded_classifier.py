"""A classifier cut over two and three processes: the loss and the gradients of one, in float32."""

import numpy as np
import pytest
import torch

from marginbench.dispatch.worker import FINISHED_STATUS, STOPPED_STATUS
from marginbench.heads import build_head
from marginbench.runs.run_folder import RunFolder
from marginbench.training.momentum import MomentumSGD
from marginbench.training.ranks import joined
from marginbench.training.sharded_classifier import ShardedClassifier
from marginbench.training.trained import load_trained
from tests.conftest import tiny_cell, train_cell
from tests.training.rank_processes import on_ranks
from tests.training.test_ranks import _stopped_after, _work, weights_of

HEADS = [
    ("softmax", {"bias": True}),
    ("weighted-softmax", {"class_weights": tuple(float(k) for k in range(7))}),
    ("l2-softmax", {"learn_alpha": True}),
    ("l-softmax", {"m": 3, "lambda_base": 2.0}),
    ("a-softmax", {"m": 2, "lambda_base": 2.0}),
    ("normface", {"learn_s": True}),
    ("arcface", {"s": 16.0}),
    ("arcface", {"s": 16.0, "grad": "detached"}),
    ("adaface", {"s": 16.0}),
    ("magface", {"s": 16.0}),
    ("circle", {"s": 16.0, "grad": "exact"}),
    ("curricularface", {"s": 16.0}),
    ("sphereface-r", {"version": "v2", "grad": "exact", "feature_norm": "none"}),
    ("subcenter-arcface", {"s": 16.0}),
    ("contrastive", {}),
    ("triplet", {}),
]
CLASSES, CPU = 7, torch.device("cpu")


def two_steps(name, parameters, dtype, ranks=None):
    """Losses, gradients and state of two optimiser steps, as numpy, the classifier as it is."""
    torch.manual_seed(0)
    head = build_head(name, 5, CLASSES, **parameters).to(dtype)
    optimiser = MomentumSGD(
        [{"params": list(head.parameters()), "weight_decay": 1e-3}],
        learning_rate=0.01,
        momentum=0.9,
    )
    sharded = None if ranks is None else ShardedClassifier(head, optimiser, ranks)
    found = {}
    for step in range(2):
        features = (2 * torch.randn(9, 5, dtype=torch.float64)).to(dtype).requires_grad_()
        labels = torch.arange(9) * 3 % CLASSES
        optimiser.zero_grad()
        loss = head(features, labels)
        loss.backward()
        found[f"loss {step}"], found[f"features {step}"] = loss, features.grad
        for other, parameter in head.named_parameters():
            found[f"gradient of {other} {step}"] = parameter.grad
        optimiser.step()
    own = head.weight.detach().clone()
    if sharded is not None:
        # What a checkpoint and an evaluation see.
        with sharded.whole():
            if ranks.leads:
                logits = head.logits(features.detach())
                momentum = optimiser.state[head.weight]["momentum_buffer"]
                found |= {"logits": logits, "momentum": momentum, "whole": head.weight.clone()}
        assert torch.equal(head.weight, own)
    else:
        momentum = optimiser.state[head.weight]["momentum_buffer"]
        found |= {"logits": head.logits(features.detach()), "momentum": momentum}
        found["whole"] = head.weight
    found |= dict(head.named_buffers())
    return {key: tensor.detach().numpy().copy() for key, tensor in found.items()}


def _all_heads(ranks, address):
    with joined(ranks, CPU, address):
        return [
            two_steps(name, {**parameters, "chunk": 2}, torch.float32, ranks)
            for name, parameters in HEADS
        ]


@pytest.mark.parametrize("size", [2, 3])
def test_shards_have_the_loss_and_the_gradients_of_one_process(size):
    parts = on_ranks(_all_heads, size=size)
    for number, (name, parameters) in enumerate(HEADS):
        expected = two_steps(name, {**parameters, "chunk": 0}, torch.float64)
        found = [part[number] for part in parts]
        # The leader's has what only it knows besides.
        assert found[0].keys() == expected.keys()
        for key, array in expected.items():
            if key.startswith("gradient of weight"):
                own = [np.concatenate([part[key] for part in found])]
            else:
                own = [part[key] for part in found if key in part]
            for one in own:
                size_of = max(np.abs(array).max(), 1e-3)
                assert np.abs(one - array).max() < 2e-5 * size_of, (name, parameters, key)


def test_a_run_in_shards_goes_on_from_its_checkpoint_and_ends_like_one_process(tmp_path):
    cell = tiny_cell("softmax", chunk=3, iterations=8)
    _, alone = train_cell(cell, tmp_path / "one")
    assert on_ranks(_stopped_after, cell, tmp_path / "two", 4) == [STOPPED_STATUS] * 2
    folder = RunFolder(tmp_path / "two", cell)
    stopped = torch.load(folder.checkpoint, weights_only=True)
    assert stopped["iteration"] == 4
    assert len(stopped["head"]["weight"]) == 10
    assert on_ranks(_work, cell, tmp_path / "two") == [FINISHED_STATUS] * 2
    ours, theirs = weights_of(folder), weights_of(alone)
    for name, tensor in theirs.items():
        if name == "backbone.linear.bias":
            # Batch normalisation takes any constant out again: the gradient is 0, and what is here
            # is rounding, which differs from processor to processor.
            assert max(tensor.abs().max(), ours[name].abs().max()) < 1e-5
            continue
        difference = (ours[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-3)
        assert difference < 1e-4, name
    for row, other in zip(folder.read_history(), alone.read_history(), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert row["test_error"] == pytest.approx(other["test_error"], abs=0.01)
    assert load_trained(folder.path).head.weight.shape == (10, cell.backbone.parameters["features"])
