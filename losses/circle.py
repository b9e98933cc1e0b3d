"""Circle loss, in its form for class labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from marginbench import CosineHead, register_head
from marginbench.heads.search_spaces import least_scale
from marginbench.plugins.parameters import Fraction, MarginGradient, Positive
from marginbench.plugins.search_ranges import LogUniform, Range, Uniform


@register_head("circle")
class Circle(CosineHead):
    """z_y = γα_y(cos θ_y − 1 + m), z_j = γα_j(cos θ_j − m) (Sun et al., CVPR 2020, Eq. 4–6).

    α_y = max(0, 1 + m − cos θ_y) and α_j = max(0, cos θ_j + m): the farther a similarity is from
    where it should be, the more it counts. With one positive similarity and K − 1 negative ones
    the paper's unified loss is this cross-entropy. Logits reach γ(1 + m), and so want float32.

    Args:
        in_features: D.
        num_classes: K.
        m: relaxation, 0 to 1; the boundary is the circle (cos θ_y − 1)² + cos² θ_j = 2m².
        s: scale > 0; γ in the paper. 256 is its value for thousands of faces; few classes want
            a small one.
        grad: "detached": the α count as constants, as in the paper. "exact": they do not.
    """

    formula = "z_y = γα_y(cos θ_y − 1 + m),  z_j = γα_j(cos θ_j − m),  α = [distance from optimum]₊"
    boundary_formula = "(cos θ₁ − 1)² + cos² θ₂ = 2m²"
    paper = "Sun et al., Circle Loss, CVPR 2020, Eq. 4–6"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        m: Fraction = 0.25,
        s: Positive = 256.0,
        grad: MarginGradient = "detached",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        self.m = m

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {
            "m": Uniform(0.05, 0.5),
            # Its logits are squares of what is missing to 1: a larger scale than the cosines'.
            "s": LogUniform(
                2 * least_scale(num_classes, 0.9), 32 * least_scale(num_classes, 0.999)
            ),
        }

    @property
    def gradient_leaves_out(self) -> str:
        return "the weights α" if self.grad == "detached" else ""

    def psi(self, cosine: Tensor) -> Tensor:
        return self.chosen(F.relu(1 + self.m - cosine)) * (cosine - (1 - self.m))

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        return self.chosen(F.relu(cosine + self.m)) * (cosine - self.m)

    def chosen(self, alpha: Tensor) -> Tensor:
        """α with its own gradient or without, as ``grad`` says."""
        return alpha.detach() if self.grad == "detached" else alpha

    def with_chosen_gradient(self, cosine: Tensor, margined: Tensor) -> Tensor:
        # Here it is α that is detached, in psi and others, and not the margin as a whole.
        return margined
