"""The two kinds of logits that :mod:`marginbench.heads.chunked` takes part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from marginbench.heads import geometry


def _norms(weight: Tensor) -> Tensor:
    """Of each row (K, D), as (K, 1), and infinity for a zero row, which so stays zero."""
    if geometry.is_on_host(weight):
        norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
        # Of longer and shorter rows the squares leave the range of float32, or its precision.
        if bool(((norms > 1e-15) & (norms < 1e18)).all()):
            return norms
    norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True, dtype=torch.float64)
    norms = norms.to(weight.dtype)
    return torch.where(norms > 0, norms, torch.inf)


class LinearLogits:
    """z_j = v·w_j + b_j, or z_j = v·w_j/‖w_j‖: the gradient is written out, in reused memory.

    Args:
        inputs: the classifier (K, D), the features v (N, D), and the bias (K,) if there is one.
        normalised: whether the class weights are divided by their norms; a zero weight stays zero,
            with gradient zero.
        first: the number of the classifier's first class, where the bias is that of all classes.
    """

    def __init__(self, inputs: Sequence[Tensor], *, normalised: bool, first: int = 0) -> None:
        self.inputs = inputs
        self.can_keep = True
        self.weight, self.features = inputs[0], inputs[1]
        self.bias = inputs[2] if len(inputs) > 2 else None
        self.normalised = normalised
        self.first = first
        self._norms: dict[int, Tensor] = {}
        self._divided: int | None = None
        self._memory: dict[str, Tensor] = {}
        self._gradients: list[Tensor] = []

    def logits(self, start: int, stop: int, *, keep: bool, differentiable: bool) -> Tensor:
        weight = self._directions(start, stop)
        out = None if keep else self._reused("logits", (len(self.features), stop - start))
        logits = torch.mm(self.features, weight.T, out=out)
        if self.bias is not None:
            logits += self.bias[self.first + start : self.first + stop]
        return logits

    def add_gradient(self, start: int, stop: int, slope: Tensor) -> None:
        if not self._gradients:
            self._gradients = [torch.empty_like(self.weight), torch.zeros_like(self.features)]
            if self.bias is not None:
                self._gradients.append(torch.zeros_like(self.bias))
        weight = self._directions(start, stop)
        own = self._gradients[0][start:stop]
        torch.mm(slope.T, self.features, out=own)
        self._gradients[1].addmm_(slope, weight)
        if self.bias is not None:
            self._gradients[2][self.first + start : self.first + stop] = slope.sum(dim=0)
        if self.normalised:
            # Of w/‖w‖: what is along the weight goes, and the rest is divided by its norm.
            along = self._reused("along", tuple(own.shape))
            along = torch.mul(own, weight, out=along).sum(dim=1, keepdim=True)
            own.addcmul_(weight, along, value=-1).div_(self._norms[start])

    def gradients(self) -> list[Tensor | None]:
        return list(self._gradients)

    def _directions(self, start: int, stop: int) -> Tensor:
        weight = self.weight[start:stop]
        if not self.normalised:
            return weight
        if self._divided == start:
            return self._memory["weight"]
        if start not in self._norms:
            self._norms[start] = _norms(weight)
        directions = self._reused("weight", tuple(weight.shape))
        self._divided = start
        return torch.div(weight, self._norms[start], out=directions)

    def _reused(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Memory of that shape, the same at each call while the shape is."""
        if name not in self._memory or self._memory[name].shape != shape:
            self._memory[name] = self.features.new_empty(shape)
        return self._memory[name]


class DifferentiatedLogits:
    """Any logits that are made class by class: autograd has the gradient, part by part.

    Args:
        inputs: the classifier (K, ..., D), then what ``function`` takes besides.
        function: (a part of the classifier, the other inputs) → (N, its classes). It has to give
            the same each time: random numbers in it are not supported.
        parameters: of the head, which ``function`` may read.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        function: Callable[..., Tensor],
        parameters: Sequence[Tensor] = (),
    ) -> None:
        self.inputs = inputs
        self.can_keep = False
        self.function = function
        self.parameters = parameters
        self._leaves: list[Tensor] = []
        self._logits: Tensor | None = None
        self._gradients: list[Tensor] = []

    def logits(self, start: int, stop: int, *, keep: bool, differentiable: bool) -> Tensor:
        others = self.inputs[1 : len(self.inputs) - len(self.parameters)]
        if not differentiable:
            return self.function(self.inputs[0][start:stop], *others)
        with torch.enable_grad():
            given = (self.inputs[0][start:stop], *others)
            self._leaves = [tensor.detach().requires_grad_() for tensor in given]
            self._logits = self.function(*self._leaves)
        return self._logits

    def add_gradient(self, start: int, stop: int, slope: Tensor) -> None:
        if not self._gradients:
            self._gradients = [torch.zeros_like(tensor) for tensor in self.inputs]
        assert self._logits is not None
        found = torch.autograd.grad(
            self._logits, [*self._leaves, *self.parameters], slope, allow_unused=True
        )
        self._logits = None
        for number, gradient in enumerate(found):
            if gradient is not None and number == 0:
                self._gradients[0][start:stop] = gradient
            elif gradient is not None:
                self._gradients[number] += gradient

    def gradients(self) -> list[Tensor | None]:
        return list(self._gradients)
