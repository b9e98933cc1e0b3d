"""The head that is checked, and the inputs that it is checked on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor

from marginbench.errors import UserError
from marginbench.heads import Head, build_head, head_class, resolve_head_parameters
from marginbench.plugins.parameters import parameter_model
from marginbench.testing.check_in_modes import NotApplicable
from marginbench.testing.observation import classifier_of, same_randomness

SIZES = ((3, 70), (13, 4), (2, 3))
"""K and D at which a head is checked besides: even and odd, few and many, K above and below D."""
OTHER_SIZES = "other sizes"


@dataclass(frozen=True)
class Subject:
    """A registered head with chosen parameters, and the sizes at which it is checked.

    Attributes:
        name: the head's registered name.
        parameters: those that differ from the defaults.
        in_features: D.
        num_classes: K.
        device: where the checks run.
        mode: in words, the choices in which it departs from the head that was asked for; "" for
            that head itself.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    in_features: int = 8
    num_classes: int = 6
    device: str = "cpu"
    mode: str = ""

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

    def modes(self, *, every_gradient: bool = False) -> list[Subject]:
        """The subject itself, and the same with every other choice that the head offers.

        A choice is a value of a ``Literal`` or ``bool`` parameter; one parameter departs at a
        time. What the head refuses in words is left out. A mode has no modes of its own.

        Args:
            every_gradient: whether every choice of ``grad`` is paired with each of the others.
        """
        if self.mode:
            return [self]
        resolved, choices = self.resolved(), {}
        model = parameter_model(f"head {self.name!r}", head_class(self.name))
        for name, parameter in model.model_fields.items():
            offered = offered_choices(parameter.annotation)
            choices[name] = [choice for choice in offered if choice != resolved[name]]
        grads = [{"grad": grad} for grad in choices.pop("grad", [])]
        others = [{name: choice} for name in choices for choice in choices[name]]
        pairs = [{**other, **grad} for other in others for grad in grads]
        found = [self]
        for changes in [*others, *grads, *(pairs if every_gradient else [])]:
            mode = ", ".join(f"{name}={value!r}" for name, value in changes.items())
            found.append(replace(self, parameters={**self.parameters, **changes}, mode=mode))
        return [subject for subject in found if not subject.mode or subject.is_allowed()]

    def at_sizes(self, count: int = len(SIZES)) -> list[Subject]:
        """The same at the first so many of SIZES, if the head takes them; a mode has none."""
        sizes = [] if self.mode else SIZES[:count]
        found = [replace(self, num_classes=k, in_features=d, mode=OTHER_SIZES) for k, d in sizes]
        return [subject for subject in found if subject.is_allowed()]

    def is_allowed(self) -> bool:
        """Whether the head takes these parameters and sizes; not if it refuses them in words."""
        try:
            self.build()
        except UserError:
            return False
        except (Exception, SystemExit):
            pass  # the check that meets it reports it
        return True

    @property
    def sizes(self) -> str:
        """K and D in words, for the message of a check."""
        return f" (K = {self.num_classes}, D = {self.in_features})"

    def at_angles(
        self, head: Head, angles: Sequence[float], norm: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """One sample at each angle (radians) to its class weight: features (N, D), labels (N,).

        The features are of float64 and of the given norm, and lie in the plane of the own class
        weight and the next one.
        """
        weight = classifier_of(head)
        if weight is None:
            raise NotApplicable("the head has no class weights of shape (K, ..., D)")
        theta = torch.tensor(angles, dtype=torch.float64, device=self.device)[:, None]
        labels = torch.arange(len(angles), device=self.device) % self.num_classes
        centres = weight.detach().double().reshape(self.num_classes, -1, self.in_features)[:, 0]
        own = centres[labels] / centres[labels].norm(dim=1, keepdim=True)
        away = centres[(labels + 1) % self.num_classes]
        away = away - (away * own).sum(dim=1, keepdim=True) * own
        away = away / away.norm(dim=1, keepdim=True).clamp_min(1e-30)
        sines = torch.where((theta == 0) | (theta == torch.pi), 0, theta.sin())
        return norm * (theta.cos() * own + sines * away), labels

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


def offered_choices(annotation: Any) -> list[Any]:
    """The values that an annotation lists: those of a ``Literal``, or False and True."""
    if annotation is bool:
        return [False, True]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in offered_choices(part)]
