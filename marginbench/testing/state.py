"""What a checkpoint must carry, and what the optimiser must see."""

from __future__ import annotations

import io

import torch
from torch import Tensor

from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.observation import gradients, same_randomness, unregistered_tensors
from marginbench.testing.subject import Subject

STEPS_BEFORE = 5
STEPS_AFTER = 3
LEARNING_RATE = 1e-3


def state_survives_a_checkpoint(subject: Subject) -> str:
    """A head saved in the middle of training and loaded into a new one goes on just the same."""
    first = subject.build().train()
    for step in range(STEPS_BEFORE):
        found = gradients(first, *subject.batch(step))[1]
        with torch.no_grad():
            for name, parameter in first.named_parameters():
                if name in found:
                    parameter.sub_(LEARNING_RATE * found[name])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = subject.build().train()
    second.load_state_dict(torch.load(file, weights_only=True, map_location=subject.device))
    with torch.no_grad():
        for step in range(STEPS_BEFORE, STEPS_BEFORE + STEPS_AFTER):
            batch = subject.batch(step)
            with same_randomness():
                one = first(*batch)
            with same_randomness():
                other = second(*batch)
            if not torch.equal(one, other):
                raise CheckFailure(
                    f"{step - STEPS_BEFORE + 1} steps after loading, the loss is {other:.6g} "
                    f"where it was {one:.6g}: some state is not in state_dict()"
                )
        features = subject.batch()[0]
        if not torch.equal(first.eval().logits(features), second.eval().logits(features)):
            raise CheckFailure("after loading, the test logits differ")
    entries = ", ".join(first.state_dict()) or "nothing"
    return f"{STEPS_AFTER} losses after loading equal to the bit; saved: {entries}"


def parameters_reach_the_optimiser(subject: Subject) -> str:
    """All that is learnt is among ``parameters()``, and every parameter gets a gradient."""
    head = subject.build().train()
    features, labels = subject.batch()
    loss = head(features, labels)
    parameters = dict(head.named_parameters())
    known = {id(p) for p in parameters.values()}
    plain = dict(unregistered_tensors(head))
    for leaf in _leaves(loss):
        if id(leaf) not in known:
            name = next((key for key, value in plain.items() if value is leaf), "")
            raise CheckFailure(
                f"a tensor {name!r} of shape {tuple(leaf.shape)} is learnt but not among "
                "parameters(): make it an nn.Parameter"
            )
    for name, tensor in plain.items():
        if tensor.is_floating_point():
            raise CheckFailure(
                f"the tensor {name!r} of shape {tuple(tensor.shape)} is neither parameter nor "
                "buffer: optimiser, checkpoints and .to(device) all miss it"
            )
    if not any(p.requires_grad for p in parameters.values()):
        raise CheckFailure("the head has no parameter that is learnt")
    loss.backward()
    idle = [name for name, p in parameters.items() if p.requires_grad and p.grad is None]
    if idle:
        raise CheckFailure(f"no gradient reaches {', '.join(map(repr, idle))}")
    shapes = ", ".join(f"{name} {tuple(p.shape)}" for name, p in parameters.items())
    return f"all with a gradient: {shapes}"


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors at which backward would leave a gradient."""
    leaves, seen, stack = [], set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        stack.extend(following for following, _ in node.next_functions)
    return leaves
