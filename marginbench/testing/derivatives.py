"""The gradient that backward gives, against the slope of the loss's own values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from marginbench.heads import Head
from marginbench.heads.cosine import SLOPE_OF_MARGIN, CosineHead
from marginbench.testing.check_in_modes import CheckFailure, NotApplicable
from marginbench.testing.observation import (
    classifier_of,
    gradients,
    loss_of,
    relative_difference,
    same_randomness,
)
from marginbench.testing.subject import Subject

STEP = 1e-6
TOLERANCE = 1e-5
SAME_VALUE = 1e-12


def gradients_match_finite_differences(subject: Subject) -> str:
    """In float64, in training and evaluation mode, along a random direction in each input.

    A head that declares ``gradient_leaves_out`` is differenced with what it detaches held
    constant. The value of the loss is the same whatever ``grad`` is chosen.
    """
    head = subject.build(dtype=torch.float64)
    features, labels = mixed_batch(subject, head)
    _same_value_for_every_gradient(subject, head, features, labels)
    _detached_slope_is_that_of_no_margin(head, features, labels)
    if head.gradient_leaves_out and head.many_classes.chunk:
        raise NotApplicable(
            "over chunks of classes the loss makes its gradient by itself, and what it detaches "
            "cannot be held constant from outside; chunk=0 can be checked, and has the same"
        )
    worst, count = 0.0, 0
    batches = [(True, (features, labels)), (False, (features, labels))]
    if not subject.mode:  # small and large batches are the same matter in every mode
        many = [subject.batch(seed, torch.float64) for seed in range(8)]
        inputs, targets = (torch.cat(parts) for parts in zip(*many, strict=True))
        batches += [(True, (features[:1], labels[:1])), (True, (inputs, targets))]
    for training, batch in batches:
        mode = "training" if training else "evaluation"
        head.train(training)
        _, found = gradients(copy.deepcopy(head), *batch)
        # A single sample may be beyond a hinge, or without a pair.
        if "features" not in found or (len(batch[1]) > 2 and not found["features"].any()):
            raise CheckFailure(f"in {mode} mode no gradient reaches the features")
        held = _Constants() if head.gradient_leaves_out else None
        if held:
            _loss_at(head, *batch, "features", torch.zeros_like(batch[0]), held)
        for name, gradient in found.items():
            deviation, slope, expected = _deviation(head, *batch, name, gradient, held)
            count += 1
            worst = max(worst, deviation)
            if not deviation <= TOLERANCE:
                raise CheckFailure(
                    f"the gradient for {name!r} in {mode} mode is off by {deviation:.2g} of its "
                    f"size (allowed {TOLERANCE:g}): along one direction {slope:.6g}, and the loss "
                    f"changes by {expected:.6g}, with {len(batch[1])} samples; what a loss "
                    "detaches on purpose is declared in gradient_leaves_out"
                )
    note = head.gradient_leaves_out and f"; held constant, as declared: {head.gradient_leaves_out}"
    return f"largest relative deviation {worst:.1e} along {count} directions{note}"


def mixed_batch(subject: Subject, head: Head, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random samples, and where the head has class weights others at angles from 0.1 to 3.1."""
    features, labels = subject.batch(seed, dtype=torch.float64)
    if classifier_of(head) is None:
        return features, labels
    angles = torch.linspace(0.1, 3.1, 2 * subject.num_classes + 1).tolist()
    more, more_labels = subject.at_angles(head, angles, norm=12.0)
    return torch.cat([features, more]), torch.cat([labels, more_labels])


def _same_value_for_every_gradient(
    subject: Subject, head: Head, features: Tensor, labels: Tensor
) -> None:
    for other in subject.modes():
        if other.mode.startswith("grad="):
            twin = other.build(dtype=torch.float64)
            difference = relative_difference(
                loss_of(twin, features, labels), loss_of(head, features, labels)
            )
            if not difference <= SAME_VALUE:
                raise CheckFailure(
                    f"with {other.mode} the value of the loss is off by {difference:.2g} of its "
                    "size: grad changes the gradient only"
                )


def _detached_slope_is_that_of_no_margin(head: Head, features: Tensor, labels: Tensor) -> None:
    """What ``CosineHead`` promises of grad="detached": the target's logit has the slope s."""
    if not isinstance(head, CosineHead) or head.grad != "detached":
        return
    if head.gradient_leaves_out != SLOPE_OF_MARGIN:
        return
    with torch.no_grad():
        norms, cosine = head.norms_and_cosines(features)
    leaf = cosine.clone().requires_grad_()
    logits = copy.deepcopy(head).training_logits(norms, leaf, labels)
    (slope,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), leaf)
    own = slope.gather(1, labels[:, None])
    difference = relative_difference(own, torch.as_tensor(head.scale(norms)).to(own).expand_as(own))
    if not difference <= TOLERANCE:
        raise CheckFailure(
            'with grad="detached" the slope of the target\'s logit in the cosine is off by '
            f"{difference:.2g} of the scale: it is not that of no margin"
        )


class _Constants(TorchFunctionMode):
    """Records what a loss takes out of the graph, and gives it back unchanged at each later run.

    That is the result of ``detach``, whatever is computed with gradients switched off, and what
    such a computation writes into a tensor in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[Any] = []
        self.replay: Iterator[Any] | None = None
        self.state: set[int] = set()

    def of(self, head: Head) -> _Constants:
        """The same for another copy of the head, whose buffers stay the state that they are."""
        self.state = {buffer.untyped_storage().data_ptr() for buffer in head.buffers()}
        self.replay = iter(list(self.recorded)) if self.recorded else None
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        versions = [one._version for one in given]
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        outside = name == "detach" or func is torch.Tensor.data.__get__  # type: ignore[attr-defined]
        if not outside and torch.is_grad_enabled():
            return result
        # By their versions, so that `+=`, `x[k] = …`, `out=…` and `add_` are all seen.
        pairs = zip(given, versions, strict=True)
        changed = [one for one, version in pairs if one._version != version]
        value = changed or result
        if not any(isinstance(leaf, Tensor | float) for leaf in tree_leaves(value)):
            return result
        if self.replay is None:
            self.recorded.append(tree_map_only(Tensor, torch.clone, value))
            return result
        constant = tree_map_only(Tensor, torch.clone, next(self.replay))
        for one, content in zip(changed, constant if changed else [], strict=True):
            one.data.copy_(content)
        return result if changed else tree_map(self._unless_state, result, constant)

    def _unless_state(self, result: Any, constant: Any) -> Any:
        """The constant; but a view of a buffer stays one, for what is written into it."""
        viewed = isinstance(result, Tensor) and result.untyped_storage().data_ptr() in self.state
        return result if viewed else constant


def _deviation(
    head: Head,
    features: Tensor,
    labels: Tensor,
    name: str,
    gradient: Tensor,
    held: _Constants | None,
) -> tuple[float, float, float]:
    """The deviation along a random direction, relative to the gradient's length.

    With it the gradient along that direction, and the slope of the loss's values.
    """
    generator = torch.Generator().manual_seed(7)
    direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
    direction = (direction / direction.norm()).to(gradient.device)
    ahead = _loss_at(head, features, labels, name, STEP * direction, held)
    behind = _loss_at(head, features, labels, name, -STEP * direction, held)
    slope = (ahead - behind) / (2 * STEP)
    along = float((gradient * direction).sum())
    return abs(slope - along) / max(float(gradient.norm()), 1e-3), along, slope


def _loss_at(
    head: Head,
    features: Tensor,
    labels: Tensor,
    name: str,
    shift: Tensor,
    held: _Constants | None,
) -> float:
    # A copy each time, so that no state of the head moves between two values.
    head = copy.deepcopy(head)
    with torch.no_grad():
        if name == "features":
            features = features + shift
        else:
            head.get_parameter(name).add_(shift)
    with same_randomness():
        if held is None:
            with torch.no_grad():
                return float(head(features, labels))
        # With gradients on, as in training: what is computed with them off is then known.
        with held.of(head):
            loss = head(features, labels)
        return float(loss.detach())
