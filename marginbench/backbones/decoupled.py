"""Convolutions of angle and norm: SphereConv, and the decoupled operators that it is one of.

A filter's answer to a patch is h(‖w‖, ‖x‖) · g(θ) in place of the inner product ‖w‖‖x‖cos θ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from marginbench.errors import UserError

Conv = Literal["plain", "sphere", "decoupled"]
Angular = Literal["linear", "cosine", "sigmoid", "square-cosine"]
Magnitude = Literal["ball", "tanh", "linear", "log", "segmented", "mixed"]
WeightNorm = Literal["none", "linear", "tanh"]
Curvature = Annotated[float, Field(gt=0, le=10)]
Radius = Annotated[float, Field(gt=0, le=1000)]
Slope = Annotated[float, Field(ge=0, le=1000)]


@dataclass(frozen=True)
class Operator:
    """What takes the place of the inner product; as :class:`DecoupledConv2d` has it.

    Attributes:
        conv: "plain", the inner product; "sphere", g(θ) alone (Liu et al., Deep Hyperspherical
            Learning, NeurIPS 2017); or "decoupled" (Liu et al., Decoupled Networks, CVPR 2018).
        angular: g.
        curvature: k of the sigmoid g.
        magnitude: h as a function of ‖x‖, of "decoupled".
        radius: ρ of "ball", "tanh" and "segmented", in units of √D, D the filter's length: about
            the norm of a patch whose entries have variance 1.
        learn_radius: whether ρ is learnt, one a layer, from that value on.
        slope: β of "segmented" and "mixed".
        weight_norm: what ‖w‖ is good for: "none", h is multiplied by ‖w‖ ("linear") or by
            tanh(‖w‖/ρ) ("tanh").
    """

    conv: Conv = "plain"
    angular: Angular = "cosine"
    curvature: float = 0.3
    magnitude: Magnitude = "tanh"
    radius: float = 1.0
    learn_radius: bool = False
    slope: float = 0.5
    weight_norm: WeightNorm = "none"

    def check(self, owner: str) -> None:
        """Make sure that what is chosen has an effect.

        Args:
            owner: whose parameters these are, for the message ("backbone 'small'").

        Raises:
            UserError: a parameter of an operator that is not in use differs from its default.
        """
        used = {
            "plain": (),
            "sphere": ("angular", "curvature"),
            "decoupled": tuple(self.__dataclass_fields__),
        }[self.conv]
        for name, field in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if name not in ("conv", *used) and value != field.default:
                raise UserError(
                    f"{owner}: {name} = {value!r} is not allowed with conv = {self.conv!r}; "
                    f"allowed: {field.default!r}, or conv = "
                    + ("'decoupled'" if name not in ("angular", "curvature") else "another one")
                )

    def convolution(
        self, channels: int, filters: int, kernel: int, stride: int, padding: int
    ) -> nn.Conv2d:
        """A convolution without bias, of this operator."""
        if self.conv == "plain":
            return nn.Conv2d(channels, filters, kernel, stride, padding=padding, bias=False)
        return DecoupledConv2d(self, channels, filters, kernel, stride, padding)


class DecoupledConv2d(nn.Conv2d):
    """(N, C, H, W) → (N, filters, H', W'): h(‖w‖, ‖x‖) · g(θ) of each filter w and patch x.

    g(θ), which is 1 at θ = 0 and 0 at π/2 (NeurIPS 2017, Eq. 2–4; the last of CVPR 2018):
    "linear": 1 − 2θ/π; "cosine": cos θ; "sigmoid": the sigmoid of steepness 1/k, moved and scaled
    so that it goes from 1 to −1; "square-cosine": sign(cos θ)·cos²θ.

    h(‖x‖) (CVPR 2018, Section 3, α = 1: batch normalisation follows): "sphere" has 1; "ball":
    min(‖x‖, ρ)/ρ; "tanh": tanh(‖x‖/ρ); "linear": ‖x‖; "log": log(1 + ‖x‖); "segmented": ‖x‖ up to
    ρ, and ρ + β(‖x‖ − ρ) beyond; "mixed": ‖x‖ + β·log(1 + ‖x‖).

    A zero patch or filter has θ = π/2, so that the output is 0, with gradient 0.

    Args:
        operator: g and h.
        channels: C.
        filters: of the output.
        kernel: its height and width.
        stride: see :class:`torch.nn.Conv2d`.
        padding: with zeros.

    Attributes:
        log_radius: log ρ, learnt, in units of log √D; None where ρ is fixed.
    """

    def __init__(
        self,
        operator: Operator,
        channels: int,
        filters: int,
        kernel: int,
        stride: int,
        padding: int,
    ) -> None:
        super().__init__(channels, filters, kernel, stride, padding=padding, bias=False)
        self.operator = operator
        self._window = (kernel, stride, padding)
        self._length = math.sqrt(channels * kernel**2)
        start = torch.tensor(math.log(operator.radius))
        self.log_radius = nn.Parameter(start) if operator.learn_radius else None

    @property
    def rho(self) -> Tensor | float:
        """ρ, in the units of ‖x‖."""
        if self.log_radius is None:
            return self._length * self.operator.radius
        return self._length * self.log_radius.exp()

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        filters = self.weight
        precise = torch.promote_types(input.dtype, torch.float32)
        squares = input.to(precise).square().sum(dim=1, keepdim=True)
        # The mean over a window times its size: a sum that no precision of autocast rounds.
        sums = F.avg_pool2d(squares, *self._window) * self._window[0] ** 2
        norm = _root(sums)
        weight_norm = _root(filters.to(precise).square().sum(dim=(1, 2, 3)))[:, None, None]
        inner = F.conv2d(input, filters, None, self.stride, self.padding)
        lengths = norm * weight_norm
        there = lengths > 0
        cosine = torch.where(there, inner / torch.where(there, lengths, 1), 0).clamp(-1, 1)
        output = self._angular(cosine)
        if self.operator.conv == "decoupled":
            output = output * self._magnitude(norm)
            if self.operator.weight_norm == "linear":
                output = output * weight_norm
            elif self.operator.weight_norm == "tanh":
                output = output * (weight_norm / self.rho).tanh()
        return output

    def _angular(self, cosine: Tensor) -> Tensor:
        kind, k = self.operator.angular, self.operator.curvature
        if kind == "cosine":
            return cosine
        if kind == "square-cosine":
            return cosine * cosine.abs()
        away = math.pi / 2 - _angle(cosine)
        if kind == "linear":
            return away * (2 / math.pi)
        return (away / (2 * k)).tanh() / math.tanh(math.pi / (4 * k))

    def _magnitude(self, norm: Tensor) -> Tensor:
        kind, slope, rho = self.operator.magnitude, self.operator.slope, self.rho
        if kind == "ball":
            return norm.clamp(max=rho) / rho
        if kind == "tanh":
            return (norm / rho).tanh()
        if kind == "linear":
            return norm
        if kind == "log":
            return norm.log1p()
        if kind == "mixed":
            return norm + slope * norm.log1p()
        return torch.where(norm <= rho, norm, rho + slope * (norm - rho))


def _root(squares: Tensor) -> Tensor:
    """√, with gradient 0 (and not infinity) at 0."""
    there = squares > 0
    return torch.where(there, torch.where(there, squares, 1).sqrt(), 0)


def _angle(cosine: Tensor) -> Tensor:
    """θ in [0, π] from cos θ, with gradient 0 (and not infinity) at cos θ = ±1."""
    return torch.atan2(_root((1 - cosine) * (1 + cosine)), cosine)
