"""MagFace: the margin grows with the feature's norm, which so comes to show the quality."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from marginbench import CosineHead, register_head
from marginbench.errors import UserError
from marginbench.heads import WithoutMargin
from marginbench.heads.additive import additive_psi
from marginbench.heads.search_spaces import scale_range
from marginbench.plugins.parameters import (
    AngularMargin,
    BeyondPi,
    MarginGradient,
    NonNegative,
    Positive,
)
from marginbench.plugins.search_ranges import LogUniform, Range, Uniform


@register_head("magface")
class MagFace(CosineHead):
    """z_y = s·cos(θ + m(a)), plus λ_g·g(a), a = ‖x‖ (Meng et al., CVPR 2021, Section 3).

    m(a) rises in a straight line from l_m at l_a to u_m at u_a, g(a) = a/u_a² + 1/a, and a is
    kept within [l_a, u_a]. For the norms to lie in that range, a backbone whose
    features are much shorter or longer needs other limits.

    Args:
        in_features: D.
        num_classes: K.
        l_a: least norm that counts, > 0.
        u_a: greatest norm that counts, > l_a.
        l_m: margin at the least norm, radians, 0 ≤ l_m < π.
        u_m: margin at the greatest norm, l_m ≤ u_m < π.
        lambda_g: weight λ_g ≥ 0 of g, which rewards long features.
        s: scale > 0. A few classes want a small one (8 to 16), thousands of them 30 to 64.
        beyond: where cos(θ + m) does not hold: see
            :func:`marginbench.heads.additive.additive_psi`. The authors' code trains with "easy".
        grad: "exact" is the formula's gradient; "detached" leaves out the margin's slope.

    Raises:
        UserError: u_a ≤ l_a, or u_m < l_m.
    """

    formula = "z_y = s·cos(θ_y + m(‖x‖)),  z_j = s·cos θ_j;  + λ_g(‖x‖/u_a² + 1/‖x‖)"
    boundary_formula = "s(cos(θ₁ + m(‖x‖)) − cos θ₂) = 0"
    paper = "Meng et al., MagFace, CVPR 2021, Section 3"
    without_margin = WithoutMargin(
        {"l_m": 0.0, "u_m": 0.0, "lambda_g": 0.0, "s": 16.0}, "normface", {"s": 16.0}
    )

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        l_a: Positive = 10.0,
        u_a: Positive = 110.0,
        l_m: AngularMargin = 0.45,
        u_m: AngularMargin = 0.8,
        lambda_g: NonNegative = 35.0,
        s: Positive = 64.0,
        beyond: BeyondPi = "linear",
        grad: MarginGradient = "exact",
    ) -> None:
        super().__init__(in_features, num_classes, s=s, grad=grad)
        if u_a <= l_a:
            raise UserError(
                f"head 'magface': u_a = {u_a!r} is not allowed; allowed: > l_a = {l_a!r}"
            )
        if u_m < l_m:
            raise UserError(
                f"head 'magface': u_m = {u_m!r} is not allowed; allowed: ≥ l_m = {l_m!r}"
            )
        self.l_a, self.u_a = l_a, u_a
        self.l_m, self.u_m = l_m, u_m
        self.lambda_g = lambda_g
        self.beyond = beyond

    @classmethod
    def search_space(cls, num_classes: int) -> dict[str, Range]:
        return {
            "l_m": Uniform(0.05, 0.45),
            "u_m": Uniform(0.45, 0.9),
            "lambda_g": LogUniform(1.0, 100.0),
            "s": scale_range(num_classes),
        }

    def psi(self, cosine: Tensor) -> Tensor:
        return additive_psi(cosine, (self.l_m + self.u_m) / 2, self.beyond)

    def target(self, cosine: Tensor, norms: Tensor) -> Tensor:
        share = (norms.clamp(self.l_a, self.u_a) - self.l_a) / (self.u_a - self.l_a)
        return additive_psi(cosine, self.l_m + (self.u_m - self.l_m) * share, self.beyond)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        norms, cosine = self.norms_and_cosines(features)
        a = norms.clamp(self.l_a, self.u_a)
        reward = (a / self.u_a**2 + 1 / a).mean()
        logits = self.training_logits(norms, cosine, labels)
        return F.cross_entropy(logits, labels) + self.lambda_g * reward
