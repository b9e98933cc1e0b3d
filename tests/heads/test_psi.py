"""ψ of the multiplicative and the additive margins, against the paper's sums and plain cosines."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marginbench.heads.additive import additive_psi, folded_cosine
from marginbench.heads.chebyshev import cosine_of_multiple, multiplicative_psi
from marginbench.heads.geometry import angle, norm_and_direction, sine
from tests.heads import head_oracles

MARGINS = range(1, 9)
angles = st.floats(0, math.pi)


def psi_at(theta, m):
    return multiplicative_psi(torch.tensor(math.cos(theta), dtype=torch.float64), m).item()


@settings(max_examples=200, deadline=None)
@given(angles, st.sampled_from(MARGINS))
def test_chebyshev_is_the_cosine_of_the_multiple_angle(theta, m):
    found = cosine_of_multiple(torch.tensor(math.cos(theta), dtype=torch.float64), m)
    assert found.item() == pytest.approx(math.cos(m * theta), abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(angles, st.sampled_from(MARGINS))
def test_psi_is_equation_6_with_the_binomials_of_equation_7(theta, m):
    assert psi_at(theta, m) == pytest.approx(head_oracles.multiplicative_psi(theta, m), abs=1e-11)


@pytest.mark.parametrize("m", MARGINS)
def test_psi_at_every_border_is_one_minus_two_k(m):
    for k in range(m + 1):
        assert psi_at(k * math.pi / m, m) == pytest.approx(1 - 2 * k, abs=1e-12)


@pytest.mark.parametrize("m", MARGINS)
def test_psi_is_continuous_and_falls_strictly(m):
    cosine = torch.linspace(0, math.pi, 20_001, dtype=torch.float64).cos()
    psi = multiplicative_psi(cosine, m)
    steps = psi[1:] - psi[:-1]
    assert (steps < 0).all()
    # |dψ/dθ| ≤ m, so that a jump would show as a step longer than m·Δθ.
    assert steps.abs().max() <= m * math.pi / 20_000 * 1.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", range(2, 9))
def test_the_slope_at_both_ends_is_m_squared(m, dtype):
    # dψ/dc = m² at c = ±1: a floor of mθ/π would turn the sign at −1.
    cosine = torch.tensor([1.0, -1.0], dtype=dtype, requires_grad=True)
    multiplicative_psi(cosine, m).sum().backward()
    assert cosine.grad.tolist() == [m * m, m * m]


@pytest.mark.parametrize("m", range(2, 9))
def test_rounding_beyond_the_ends_does_not_turn_the_slope_round(m):
    cosine = torch.tensor([1 + 2.4e-7, -1 - 2.4e-7], requires_grad=True)
    psi = multiplicative_psi(cosine, m)
    psi.sum().backward()
    assert psi.tolist() == pytest.approx([1, 1 - 2 * m], abs=1e-4)
    assert cosine.grad.tolist() == pytest.approx([m * m, m * m], rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [2, 3, 8])
def test_the_folded_cosine_keeps_its_slope_up_to_the_end(m, dtype):
    cosine = torch.tensor([-1.0], dtype=dtype)
    cosine = torch.nextafter(cosine, torch.zeros(1, dtype=dtype)).requires_grad_()
    folded_cosine(m * angle(cosine)).backward()
    assert cosine.grad.item() == pytest.approx(m * m, rel=0.01)


@pytest.mark.parametrize("m", [0.0, 0.3, 1.2, 3.0])
@pytest.mark.parametrize("beyond", ["linear", "mirror", "clamp", "none", "easy"])
def test_additive_psi_is_the_cosine_of_the_sum(m, beyond):
    theta = torch.linspace(0, math.pi, 401, dtype=torch.float64)
    theta = theta[(theta - (math.pi - m)).abs() > 1e-9]
    theta = theta[(theta - math.pi / 2).abs() > 1e-9]  # where "easy" jumps
    found = additive_psi(theta.cos(), m, beyond)
    expected = [head_oracles.additive_psi(t, m, beyond) for t in theta.tolist()]
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), atol=1e-7, rtol=0
    )


def test_the_easy_margin_is_none_at_right_angles():
    cosine = torch.tensor([1e-9, 0.0], dtype=torch.float64)
    assert additive_psi(cosine, 0.5, "easy").tolist() == pytest.approx([-math.sin(0.5), 0])


@pytest.mark.parametrize("m", [9, 30, 100])
def test_psi_of_a_large_margin_goes_by_the_angle(m):
    theta = torch.linspace(1e-3, math.pi - 1e-3, 997, dtype=torch.float64)
    expected = []
    for angle_of_sample in theta.tolist():
        k = int(m * angle_of_sample / math.pi)
        expected.append((-1) ** k * math.cos(m * angle_of_sample) - 2 * k)
    found = multiplicative_psi(theta.cos(), m)
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_psi_costs_no_more_at_a_larger_margin():
    def steps(m):
        seen, nodes = set(), [multiplicative_psi(torch.ones(1, requires_grad=True), m).grad_fn]
        while nodes:
            node = nodes.pop()
            nodes += [n for n, _ in node.next_functions if n is not None and n not in seen]
            seen.add(node)
        return len(seen)

    assert steps(9) == steps(100) <= 100


@pytest.mark.parametrize("m", [0.2, 0.5, 1.5])
def test_what_each_rule_does_at_pi_minus_m(m):
    before, after = (
        torch.tensor(math.cos(math.pi - m + step), dtype=torch.float64) for step in (-1e-6, 1e-6)
    )
    jump = {
        rule: (additive_psi(after, m, rule) - additive_psi(before, m, rule)).item()
        for rule in ("linear", "mirror", "clamp", "none")
    }
    assert jump["linear"] == pytest.approx(1 - math.cos(m) - m * math.sin(m), abs=1e-5)
    assert [jump[rule] for rule in ("mirror", "clamp", "none")] == pytest.approx(
        [0, 0, 0], abs=1e-5
    )


@pytest.mark.parametrize("beyond", ["linear", "mirror"])
def test_the_falling_rules_fall(beyond):
    cosine = torch.linspace(0, math.pi, 5001, dtype=torch.float64).cos()
    psi = additive_psi(cosine, 0.5, beyond)
    assert (psi[1:] < psi[:-1]).all()


def test_a_margin_of_its_own_for_each_sample():
    cosine = torch.tensor([[0.3], [-0.95]], dtype=torch.float64)
    margins = torch.tensor([[0.1], [0.9]], dtype=torch.float64)
    together = additive_psi(cosine, margins, "linear")
    one_by_one = [additive_psi(cosine[i], float(margins[i]), "linear") for i in range(2)]
    torch.testing.assert_close(together, torch.stack(one_by_one), atol=1e-15, rtol=0)


@pytest.mark.parametrize("m", MARGINS)
def test_the_folded_cosine_is_psi_for_whole_margins(m):
    theta = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    folded = folded_cosine(m * theta)
    torch.testing.assert_close(folded, multiplicative_psi(theta.cos(), m), atol=1e-11, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sine_and_angle_at_the_ends_have_gradient_zero(dtype):
    cosine = torch.tensor([1.0, -1.0, 1.0 + 1e-6, -1.0 - 1e-6], dtype=dtype, requires_grad=True)
    assert sine(cosine).tolist() == [0, 0, 0, 0]
    (sine(cosine) + angle(cosine)).sum().backward()
    assert cosine.grad.tolist() == [0, 0, 0, 0]


@settings(max_examples=100, deadline=None)
@given(angles)
def test_sine_and_angle_invert_the_cosine(theta):
    cosine = torch.tensor(math.cos(theta), dtype=torch.float64)
    assert angle(cosine).item() == pytest.approx(theta, abs=2e-8)
    assert sine(cosine).item() == pytest.approx(math.sin(theta), abs=2e-8)


@pytest.mark.parametrize("length", [0.0, 1e-38, 1e-20, 1e-6, 1.0, 1e6, 1e20, 1e37])
def test_norm_and_direction_at_any_length(length):
    vector = torch.tensor([[0.6, 0.0, -0.8]]) * length
    vector.requires_grad_()
    norm, direction = norm_and_direction(vector)
    assert norm.item() == pytest.approx(length, rel=1e-5)
    expected = [0.6, 0.0, -0.8] if length else [0, 0, 0]
    assert direction[0].tolist() == pytest.approx(expected, rel=1e-5)
    norm.sum().backward()
    assert vector.grad[0].tolist() == pytest.approx(expected, rel=1e-5)
