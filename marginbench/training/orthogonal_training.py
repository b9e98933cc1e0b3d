"""Orthogonal over-parameterised training: random neurons that stay, and a rotation that is learnt.

The neurons of a layer are drawn once and fixed; what is trained is an orthogonal matrix that turns
all of them together, w_i = R·v_i (Liu et al., Orthogonal Over-Parameterized Training, CVPR 2021).
So the angles between the neurons of a layer, and with them its hyperspherical energy, stay those
of random vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal

from marginbench.experiments.cell_fields import Training
from marginbench.training.functional_optimiser import FunctionalOptimiser
from marginbench.training.seeds import generator

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Rotation(nn.Module):
    """The neurons of a layer → the same, turned; a parametrisation of the layer's weight.

    Of a layer with longer neurons than ``block``, p of their D entries turn at a time, chosen at
    random: the rotation is the identity on the rest (the stochastic variant, S-OPT). From time to
    time :meth:`redraw` turns the neurons for good and chooses others.

    Args:
        dimension: D, the length of a neuron.
        kind: the map from free parameters to orthogonal matrices.
        block: p; 0 or at least D: all entries turn.

    Attributes:
        chosen: (p,), the entries that turn; None: all.
    """

    chosen: Tensor | None

    def __init__(self, dimension: int, kind: str, block: int) -> None:
        super().__init__()
        self._dimension = dimension
        size = block if 0 < block < dimension else dimension
        self.register_buffer("chosen", torch.arange(size) if size < dimension else None)
        self._turn = _Matrix(size)
        if kind == "cayley":
            parametrize.register_parametrization(self._turn, "weight", _Cayley(size), unsafe=True)
        else:
            orthogonal(self._turn, "weight", orthogonal_map=kind)
        # What is the identity, to begin anew from.
        self._start = [p.detach().clone() for p in self._turn.parameters()]

    @property
    def matrix(self) -> Tensor:
        """R, (p, p), orthogonal up to rounding."""
        matrix: Tensor = self._turn.weight
        return matrix

    def forward(self, neurons: Tensor) -> Tensor:
        """(N, ...) → (N, ...), D numbers in each of the N."""
        flat = neurons.flatten(1)
        if self.chosen is None:
            turned = flat @ self.matrix.T
        else:
            part = flat.index_select(1, self.chosen) @ self.matrix.T
            turned = flat.index_copy(1, self.chosen, part)
        return turned.view_as(neurons)

    @torch.no_grad()
    def redraw(self, neurons: Tensor, order: torch.Generator) -> None:
        """Turn the neurons for good, and begin anew with other entries; all in place.

        Args:
            neurons: (N, ...), as the layer keeps them.
            order: on the CPU, for the choice.
        """
        if self.chosen is None:
            return
        neurons.copy_(self(neurons))
        drawn = torch.randperm(self._dimension, generator=order)[: len(self.chosen)]
        self.chosen.copy_(drawn.sort().values, non_blocking=True)
        for parameter, start in zip(self._turn.parameters(), self._start, strict=True):
            parameter.copy_(start)


class _Matrix(nn.Module):
    """A square matrix, the identity at first; no layer, which would count as one of the model."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(size))


class _Cayley(nn.Module):
    """A square matrix X → (I − A/2)⁻¹(I + A/2), A = L − Lᵀ, L the lower triangle of X.

    What torch's parametrisation "cayley" computes, to the bit, with its buffer. But it lets the
    host check whether I − A/2 is singular, which waits for the device and cannot be captured as a
    CUDA graph. It never is (A is skew-symmetric) unless A is not finite, which shows in the
    loss and in :meth:`OrthogonalTraining.error`.
    """

    base: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("base", torch.eye(size))

    def forward(self, free: Tensor) -> Tensor:
        lower = free.tril()
        skew = lower - lower.mH
        identity = torch.eye(len(free), dtype=free.dtype, device=free.device)
        solved, _ = torch.linalg.solve_ex(
            torch.add(identity, skew, alpha=-0.5), torch.add(identity, skew, alpha=0.5)
        )
        return self.base @ solved

    def right_inverse(self, identity: Tensor) -> Tensor:
        return -identity


class OrthogonalTraining:
    """The rotations of a backbone, put on it.

    Args:
        backbone: every convolution and linear layer of it is changed in place: its weight is
            computed from the neurons that it had, which train no more.
        settings: the map, and the blocks.
        seed: of the cell, from which the blocks' choice is drawn.
    """

    def __init__(self, backbone: nn.Module, settings: Training, seed: int) -> None:
        self._every = settings.block_steps
        self._seed = seed
        for module in list(backbone.modules()):
            if isinstance(module, _LAYERS):
                weight: Tensor = module.weight
                size = weight[0].numel()
                rotation = Rotation(size, settings.orthogonal_map, settings.block).to(weight)
                parametrize.register_parametrization(module, "weight", rotation)
                _weight_of(module).original.requires_grad_(False)
        self._layers = list(_rotated(backbone))

    def begin_step(self, iteration: int, optimiser: FunctionalOptimiser) -> None:
        """Choose other blocks where it is time; to be called before a step, outside a CUDA graph.

        Args:
            iteration: of the step, from 0; at 0 the first blocks are chosen.
            optimiser: what it keeps of the rotations begins anew with them.
        """
        if iteration % self._every:
            return
        for number, (module, rotation) in enumerate(self._layers):
            if rotation.chosen is None:
                continue
            neurons: Tensor = _weight_of(module).original
            rotation.redraw(neurons, generator(self._seed, f"opt/{number}/{iteration}"))
            for parameter in rotation.parameters():
                for kept in optimiser.state.get(parameter, {}).values():
                    if kept is not None:
                        kept.zero_()

    @torch.no_grad()
    def error(self) -> float:
        """The largest, over the layers, of ‖RᵀR − I‖_F / √p; NaN if a rotation is not finite."""
        errors = [0.0]
        for _, rotation in self._layers:
            matrix = rotation.matrix.double()
            identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
            errors.append(float((matrix.T @ matrix - identity).norm()) / len(matrix) ** 0.5)
        return max(errors, key=lambda error: (math.isnan(error), error))


def rotation_parameters(backbone: nn.Module) -> set[int]:
    """The ids of the parameters that rotations are computed from; they are no weights to decay."""
    rotations = (module for module in backbone.modules() if isinstance(module, Rotation))
    return {id(parameter) for rotation in rotations for parameter in rotation.parameters()}


@torch.no_grad()
def fold_rotations(backbone: nn.Module) -> None:
    """Make of every turned layer a plain one with the weight that it now has; in place.

    Args:
        backbone: one without rotations is left as it is.
    """
    for module, _ in list(_rotated(backbone)):
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        module.weight.requires_grad_()


def _rotated(backbone: nn.Module) -> Iterator[tuple[nn.Module, Rotation]]:
    for module in backbone.modules():
        if isinstance(module, _LAYERS) and parametrize.is_parametrized(module, "weight"):
            for one in _weight_of(module):
                if isinstance(one, Rotation):
                    yield module, one


def _weight_of(module: nn.Module) -> Any:
    """How a layer's weight is computed, torch's ParametrizationList."""
    return module.parametrizations["weight"]  # type: ignore[index]
