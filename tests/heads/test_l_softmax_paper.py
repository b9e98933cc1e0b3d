"""L-Softmax against the paper's own formulas: Eqs. 4 and 8 for the loss, 9–13 for the gradients.

Eq. 11 swaps the cases of k; by Eq. 6, k = 0 where cos θ > cos(π/2). Eq. 8 squares 1 − cos²θ in
its second term; by Eq. 7, and by the derivative that Eq. 9 prints, it stands there once.
"""

import math

import pytest
import torch

from marginbench.heads.geometry import norm_and_direction
from tests.heads import head_oracles


def k_of(cosine, m):
    """k with cos θ in [cos((k+1)π/m), cos(kπ/m)]."""
    return sum(cosine < math.cos(j * math.pi / m) for j in range(1, m))


def equation_8(w, x, m):
    """f_y, term by term, from the inner product and the norms."""
    product, lengths = float(w @ x), float(w.norm() * x.norm())
    c = product / lengths
    k = k_of(c, m)
    terms = [
        (-1) ** n * math.comb(m, 2 * n) * c ** (m - 2 * n) * (1 - c * c) ** n
        for n in range(m // 2 + 1)
    ]
    return (-1) ** k * lengths * math.fsum(terms) - 2 * k * lengths


def equation_9(w, x, m):
    """∂f_y/∂x, by the product rule on each power of WᵀX, ‖w‖ and ‖x‖ in Eq. 8.

    Written with (1 − c²)^n multiplied out, as the paper's terms are: each is a power
    p = (wᵀx)^a / (‖w‖‖x‖)^(a−1), with ∂p/∂x = a(wᵀx)^(a−1) w/(‖w‖‖x‖)^(a−1)
    − (a−1)(wᵀx)^a x/(‖w‖^(a−1)‖x‖^(a+1)).
    """
    product, w_norm, x_norm = float(w @ x), float(w.norm()), float(x.norm())
    k = k_of(product / (w_norm * x_norm), m)
    total = torch.zeros_like(x)
    for n in range(m // 2 + 1):
        for i in range(n + 1):
            a = m - 2 * n + 2 * i
            factor = (-1) ** n * math.comb(m, 2 * n) * math.comb(n, i) * (-1) ** i
            along_w = a * product ** (a - 1) / (w_norm * x_norm) ** (a - 1) if a else 0.0
            along_x = -(a - 1) * product**a / (w_norm ** (a - 1) * x_norm ** (a + 1))
            total += factor * (along_w * w + along_x * x)
    return (-1) ** k * total - 2 * k * w_norm / x_norm * x


def equation_10(w, x, m):
    """∂f_y/∂w: Eq. 9 with the parts of w and x exchanged."""
    return equation_9(x, w, m)


def equation_9_as_printed(w, x, m):
    """The printed terms of Eq. 9, all there are for m = 2 and m = 3."""
    p, w_norm, x_norm = w @ x, w.norm(), x.norm()
    lengths = w_norm * x_norm
    k = k_of(float(p / lengths), m)
    two = math.comb(m, 2)
    power = {i: p**i if i >= 0 else 0 for i in range(-1, m + 1)}
    bracket = (
        m * power[m - 1] * w / lengths ** (m - 1)
        - (m - 1) * power[m] * x / (w_norm ** (m - 1) * x_norm ** (m + 1))
        - two * (m - 2) * power[m - 3] * w / lengths ** (m - 3)
        + two * (m - 3) * power[m - 2] * x / (w_norm ** (m - 3) * x_norm ** (m - 1))
        + two * m * power[m - 1] * w / lengths ** (m - 1)
        - two * (m - 1) * power[m] * x / (w_norm ** (m - 1) * x_norm ** (m + 1))
    )
    return (-1) ** k * bracket - 2 * k * w_norm * x / x_norm


def equation_12(w, x):
    """∂f_y/∂x for m = 2, as printed."""
    product, w_norm, x_norm = w @ x, w.norm(), x.norm()
    k = 0 if product / (w_norm * x_norm) > math.cos(math.pi / 2) else 1
    bracket = 4 * product * w / (w_norm * x_norm) - 2 * product**2 * x / (w_norm * x_norm**3)
    return (-1) ** k * bracket - (2 * k + (-1) ** k) * w_norm * x / x_norm


def equation_13(w, x):
    """∂f_y/∂w for m = 2, as printed."""
    product, w_norm, x_norm = w @ x, w.norm(), x.norm()
    k = 0 if product / (w_norm * x_norm) > math.cos(math.pi / 2) else 1
    bracket = 4 * product * x / (w_norm * x_norm) - 2 * product**2 * w / (x_norm * w_norm**3)
    return (-1) ** k * bracket - (2 * k + (-1) ** k) * x_norm * w / w_norm


def target_logit(head, w, x):
    """f_y of our head."""
    x_norm, x_direction = norm_and_direction(x[None])
    w_norm, w_direction = norm_and_direction(w[None])
    return (x_norm * w_norm * head.psi((x_direction * w_direction).sum())).squeeze()


def vectors(seed):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("m", range(1, 9))
def test_the_loss_is_equation_4_with_equation_8(m):
    head = head_oracles.double_head("l-softmax", m=m)
    features, labels = head_oracles.batch()
    expected = []
    for x, label in zip(features, labels.tolist(), strict=True):
        logits = (head.weight.detach() @ x).tolist()
        logits[label] = equation_8(head.weight[label].detach(), x, m)
        expected.append(head_oracles.cross_entropy(logits, label))
    assert head(features, labels).item() == pytest.approx(math.fsum(expected) / len(expected))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("m", range(1, 9))
def test_the_gradient_of_the_target_logit_is_equations_9_and_10(m, seed):
    head = head_oracles.double_head("l-softmax", m=m)
    w, x = (v.requires_grad_() for v in vectors(seed))
    target_logit(head, w, x).backward()
    with torch.no_grad():
        torch.testing.assert_close(x.grad, equation_9(w, x, m), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(w.grad, equation_10(w, x, m), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("m", [2, 3])
def test_equation_9_as_printed(m, seed):
    head = head_oracles.double_head("l-softmax", m=m)
    w, x = (v.requires_grad_() for v in vectors(seed))
    target_logit(head, w, x).backward()
    with torch.no_grad():
        torch.testing.assert_close(x.grad, equation_9_as_printed(w, x, m))
        # Eq. 10 prints the same with w and x exchanged.
        torch.testing.assert_close(w.grad, equation_9_as_printed(x, w, m))


@pytest.mark.parametrize("seed", range(12))
def test_the_gradient_for_m_2_is_equations_12_and_13(seed):
    head = head_oracles.double_head("l-softmax", m=2)
    w, x = (v.requires_grad_() for v in vectors(seed))
    target_logit(head, w, x).backward()
    with torch.no_grad():
        torch.testing.assert_close(x.grad, equation_12(w, x))
        torch.testing.assert_close(w.grad, equation_13(w, x))


def test_the_vectors_above_reach_both_values_of_k():
    cosines = []
    for seed in range(12):
        w, x = vectors(seed)
        cosines.append(float(w @ x / (w.norm() * x.norm())))
    assert {k_of(cosine, 2) for cosine in cosines} == {0, 1}


def test_equation_11_as_printed_swaps_the_cases_of_k():
    # At a small angle the printed cases give k = 1, and so −‖w‖‖x‖·2cos²θ − … < ψ of Eq. 6.
    w, x = torch.tensor([1.0, 0.0]).double(), torch.tensor([2.0, 0.1]).double()
    product, lengths = float(w @ x), float(w.norm() * x.norm())

    def equation_11(k):
        return (-1) ** k * 2 * product**2 / lengths - (2 * k + (-1) ** k) * lengths

    assert equation_11(0) == pytest.approx(equation_8(w, x, 2))
    assert equation_11(1) != pytest.approx(equation_8(w, x, 2), abs=1)


@pytest.mark.parametrize("m", range(1, 9))
@pytest.mark.parametrize("theta_in_pi", [0, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1])
def test_loss_at_borders(m, theta_in_pi):
    theta = theta_in_pi * math.pi
    head = head_oracles.double_head("l-softmax", 2, 3, m=m)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.5, 0.0], [0.0, 1.0], [-0.3, 0.2]]))
    features = 2 * torch.tensor([[math.cos(theta), math.sin(theta)]], dtype=torch.float64)
    logits = (features @ head.weight.T)[0].tolist()
    logits[0] = 1.5 * 2 * head_oracles.multiplicative_psi(theta, m)
    expected = head_oracles.cross_entropy(logits, 0)
    assert head(features, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("zero", ["features", "weights"])
def test_at_zero_vectors_the_target_logit_is_zero(zero):
    head = head_oracles.double_head("l-softmax", m=4)
    features, labels = head_oracles.batch(n=5)
    with torch.no_grad():
        (features if zero == "features" else head.weight).zero_()
    features.requires_grad_()
    loss = head(features, labels)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5))
    assert features.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_annealing_blends_with_the_plain_logit():
    head = head_oracles.double_head(
        "l-softmax", m=3, lambda_base=10.0, lambda_gamma=0.5, lambda_power=2
    )
    features, labels = head_oracles.batch()
    for iteration in (1, 2, 3):
        found = head(features, labels).item()
        weight = 10 * (1 + 0.5 * iteration) ** -2
        expected = []
        for x, label in zip(features, labels.tolist(), strict=True):
            logits = (head.weight.detach() @ x).tolist()
            margin = equation_8(head.weight[label].detach(), x, 3)
            logits[label] = (weight * logits[label] + margin) / (1 + weight)
            expected.append(head_oracles.cross_entropy(logits, label))
        assert found == pytest.approx(math.fsum(expected) / len(expected), rel=1e-6)
        assert head.diagnostics()["lambda"].item() == pytest.approx(weight)
