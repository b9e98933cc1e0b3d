"""AM-Softmax (CosFace): an additive margin on the cosine."""

from __future__ import annotations

from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.heads import WithoutMargin
from marginbench.heads.search_spaces import cosine_margin_range, scale_range
from marginbench.plugins.parameters import CosineMargin, Positive
from marginbench.plugins.search_ranges import Range


@register_head("am-softmax")
class AMSoftmax(CosineHead):
    """z_y = s(cos θ − m), z_j = s·cos θ_j.

    Wang et al., Additive Margin Softmax, SPL 2018, Eq. 6; CosFace, CVPR 2018, Eq. 4. The Caffe
    code of AM-Softmax's authors takes the margin only where cos θ > m: that is the head
    combined-margin with m1 = 1, m2 = 0, m3 = m and ``beyond="easy"``.

    Args:
        in_features: D.
        num_classes: K.
        m: margin, 0 ≤ m ≤ 2.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
    """

    formula = "z_y = s(cos θ_y − m),  z_j = s·cos θ_j"
    boundary_formula = "s(cos θ₁ − m − cos θ₂) = 0"
    paper = "Wang et al., Additive Margin Softmax, SPL 2018, Eq. 6; CosFace, CVPR 2018, Eq. 4"
    without_margin = WithoutMargin({"m": 0.0, "s": 16.0}, "normface", {"s": 16.0})

    def __init__(
        self, in_features: int, num_classes: int, *, m: CosineMargin = 0.35, s: Positive = 30.0
    ) -> None:
        super().__init__(in_features, num_classes, s=s)
        self.m = m

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"m": cosine_margin_range(num_classes), "s": scale_range(num_classes)}

    def psi(self, cosine: Tensor) -> Tensor:
        return cosine - self.m
