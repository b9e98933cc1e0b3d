"""Weight-normalised softmax: the decision depends on angles alone."""

from __future__ import annotations

from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.plugins.search_ranges import Range


@register_head("weight-normalised-softmax")
class WeightNormalisedSoftmax(CosineHead):
    """z_j = ‖x‖cos θ_j, ‖w_j‖ = 1, no bias (Liu et al., CVPR 2017, Eq. 5: "modified softmax").

    Args:
        in_features: D.
        num_classes: K.
    """

    formula = "z_j = ‖x‖cos θ_j,  ‖w_j‖ = 1"
    boundary_formula = "‖x‖(cos θ₁ − cos θ₂) = 0"
    paper = "Liu et al., SphereFace, CVPR 2017, Eq. 5"

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes, s=1.0)

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {}

    def psi(self, cosine: Tensor) -> Tensor:
        return cosine

    def scale(self, norms: Tensor) -> Tensor:
        return norms
