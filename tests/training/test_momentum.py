"""Our momentum is torch's SGD to the bit, and no process that trains loads torch's compiler."""

import subprocess
import sys

import pytest
import torch

from marginbench.training.momentum import MomentumSGD

SHAPES = [(5, 3), (3,), (2, 4, 3, 3), ()]


def parameters():
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in SHAPES]


def groups_of(params):
    return [
        {"params": params[::2], "weight_decay": 5e-4},
        {"params": params[1::2], "weight_decay": 0.0},
    ]


def set_gradients(params, step):
    torch.manual_seed(step + 1)
    for number, parameter in enumerate(params):
        gradient = torch.randn(parameter.shape)
        # A parameter that a step does not reach has none.
        parameter.grad = None if (number, step) == (2, 3) else gradient


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_steps_are_those_of_torch_to_the_bit(momentum, as_tensor):
    ours, theirs = parameters(), parameters()
    own = MomentumSGD(groups_of(ours), learning_rate=0.1, momentum=momentum)
    reference = torch.optim.SGD(groups_of(theirs), lr=0.1, momentum=momentum, fused=True)
    for step in range(6):
        for optimiser, params in ((own, ours), (reference, theirs)):
            rate = 0.1 / (step + 1)
            for group in optimiser.param_groups:
                group["lr"] = torch.tensor(rate) if as_tensor else rate
            set_gradients(params, step)
            optimiser.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_state_is_taken_over_by_and_from_torch():
    ours, theirs = parameters(), parameters()
    own = MomentumSGD(groups_of(ours), learning_rate=0.1, momentum=0.9)
    reference = torch.optim.SGD(groups_of(theirs), lr=0.1, momentum=0.9, fused=True)
    for optimiser, params in ((own, ours), (reference, theirs)):
        set_gradients(params, 0)
        optimiser.step()
    state, expected = own.state_dict(), reference.state_dict()
    assert state["state"].keys() == expected["state"].keys()
    for number, entry in expected["state"].items():
        assert torch.equal(state["state"][number]["momentum_buffer"], entry["momentum_buffer"])
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2, 3]]
    again = MomentumSGD(groups_of(theirs), learning_rate=0.1, momentum=0.9)
    again.load_state_dict(expected)
    # Its own copy: a step does not change what it was loaded from.
    set_gradients(ours, 1)
    set_gradients(theirs, 1)
    own.step()
    again.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    set_gradients(theirs, 2)
    before = {n: e["momentum_buffer"].clone() for n, e in expected["state"].items()}
    again.step()
    for number, buffer in before.items():
        assert torch.equal(expected["state"][number]["momentum_buffer"], buffer)


def test_gradients_are_forgotten():
    params = parameters()
    set_gradients(params, 1)
    MomentumSGD(groups_of(params), learning_rate=0.1, momentum=0.9).zero_grad()
    assert all(parameter.grad is None for parameter in params)


def test_training_loads_no_compiler():
    code = (
        "import sys, tempfile\nfrom pathlib import Path\n"
        "from tests.conftest import tiny_cell, train_cell\n"
        "train_cell(tiny_cell(iterations=4), Path(tempfile.mkdtemp()))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
