"""NormFace: softmax with weights and features both on the unit sphere."""

from __future__ import annotations

from torch import Tensor

from marginbench import CosineHead, register_head
from marginbench.heads.search_spaces import scale_range
from marginbench.plugins.parameters import Positive
from marginbench.plugins.search_ranges import Range


@register_head("normface")
class NormFace(CosineHead):
    """z_j = s·cos θ_j: the sphere-normalised softmax (Wang et al., ACM MM 2017, Section 3.3).

    The loss cannot fall below log(1 + (K−1)·exp(−s·K/(K−1))) (Proposition 2 there), so that a
    small s keeps it from being learnt: s = 1 and K = 10 leave 1.38.

    Args:
        in_features: D.
        num_classes: K.
        s: scale > 0; where it is learnt, its start. A few classes want a small one (8 to 16).
        learn_s: whether s is learnt, as the paper advises.
    """

    formula = "z_j = s·cos θ_j;  loss = −log softmax(z)_y"
    boundary_formula = "s(cos θ₁ − cos θ₂) = 0"
    paper = "Wang et al., NormFace, ACM MM 2017, Section 3.3"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        s: Positive = 30.0,
        learn_s: bool = False,
    ) -> None:
        super().__init__(in_features, num_classes, s=s, learn_s=learn_s)

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {"s": scale_range(num_classes)}

    def psi(self, cosine: Tensor) -> Tensor:
        return cosine
