"""What is checked, on which inputs, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from marginbench.heads import Head, build_head, resolve_head_parameters


class CheckFailure(AssertionError):
    """A part of the contract that does not hold; the message has the numbers."""


class NotApplicable(Exception):
    """The check has nothing to say of this head; the message says why."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: of the check.
        passed: whether the contract holds; True too where the check does not apply.
        detail: the numbers behind it, in one line.
        skipped: whether the check does not apply to this head.
    """

    name: str
    passed: bool
    detail: str
    skipped: bool = False


@dataclass(frozen=True)
class Subject:
    """A registered head with chosen parameters, and the sizes at which it is checked.

    Attributes:
        name: the head's registered name.
        parameters: those that differ from the defaults.
        in_features: D.
        num_classes: K.
        device: where the checks run.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    in_features: int = 8
    num_classes: int = 6
    device: str = "cpu"

    def build(
        self,
        *,
        dtype: torch.dtype = torch.float32,
        num_classes: int | None = None,
        in_features: int | None = None,
        **changes: Any,
    ) -> Head:
        """The head, the same from call to call: its random start has a seed of its own.

        Args:
            dtype: of its parameters and buffers.
            num_classes: in the place of the subject's.
            in_features: in the place of the subject's.
            changes: parameters in the place of the subject's.

        Raises:
            UserError: the head refuses these parameters or sizes.
        """
        with same_randomness():
            head = build_head(
                self.name,
                in_features=in_features or self.in_features,
                num_classes=num_classes or self.num_classes,
                **{**self.parameters, **changes},
            )
        return head.to(device=self.device, dtype=dtype)

    def resolved(self) -> dict[str, Any]:
        """All parameters, the defaults included."""
        return resolve_head_parameters(self.name, dict(self.parameters))

    def batch(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Two samples of each class, of norms from about 1 to 40: features (2K, D), labels (2K,).

        Args:
            seed: another seed, another batch.
            dtype: of the features.
        """
        generator = torch.Generator().manual_seed(1000 + seed)
        size = 2 * self.num_classes
        features = torch.randn(size, self.in_features, generator=generator, dtype=torch.float64)
        lengths = torch.linspace(0.5, 12, size, dtype=torch.float64)[:, None]
        labels = torch.arange(size) % self.num_classes
        features = (features * lengths).to(device=self.device, dtype=dtype)
        return features, labels.to(self.device)


@contextmanager
def same_randomness() -> Iterator[None]:
    """Random numbers from a fixed seed inside, and as before outside: a head may have dropout."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        yield


def gradients(head: Head, features: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its gradients by name: "features" and the head's parameters."""
    features = features.detach().clone().requires_grad_()
    head.zero_grad()
    with same_randomness():
        loss = head(features, labels)
    loss.backward()
    named = {"features": features, **dict(head.named_parameters())}
    return loss.detach(), {name: t.grad for name, t in named.items() if t.grad is not None}


def held_tensors(head: Head) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that a head or a part of it holds, registered or not, by name."""
    for prefix, module in head.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, Tensor)}
        for key, value in {**module._parameters, **module._buffers, **plain}.items():
            if value is not None:
                yield f"{prefix}.{key}" if prefix else key, value


def unregistered_tensors(head: Head) -> Iterator[tuple[str, Tensor]]:
    """Those of the tensors that are neither parameters nor buffers."""
    registered = {id(t) for t in (*head.parameters(), *head.buffers())}
    yield from ((name, t) for name, t in held_tensors(head) if id(t) not in registered)


def classifier_of(head: Head) -> nn.Parameter | None:
    """The parameter of class weights, (K, ..., D), if the head has one."""
    for parameter in head.parameters():
        shape = parameter.shape
        if len(shape) > 1 and shape[0] == head.num_classes and shape[-1] == head.in_features:
            return parameter
    return None


def relative_difference(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest entry (at least 1)."""
    scale = max(float(other.detach().abs().max()), 1.0)
    return float((one.detach() - other.detach()).abs().max()) / scale
