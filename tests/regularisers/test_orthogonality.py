"""Orthogonality, soft and spectral, against dense matrices in float64."""

import pytest
import torch

from marginbench.regularisers import LayerShape, build_regulariser

SHAPES = [(3, 7), (7, 3), (5, 5), (1, 4)]


def filters_of(count, dimension):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64)


def built(name, filters, **parameters):
    layers = [LayerShape("layer", *filters.shape)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_regulariser(name, layers, weight=1.0, **parameters).double()


def deviation(filters):
    """WᵀW − I with the filters as columns: each pair's inner product, by a double loop."""
    count = len(filters)
    rows = [
        [float(sum(a * b for a, b in zip(one, other, strict=True))) for other in filters.tolist()]
        for one in filters.tolist()
    ]
    return torch.tensor(rows, dtype=torch.float64) - torch.eye(count, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_soft_orthogonality_is_the_sum_of_squares(shape):
    filters = filters_of(*shape)
    expected = deviation(filters).square().sum()
    torch.testing.assert_close(built("orthogonality", filters)([filters]), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["orthogonality", "srip"])
def test_the_gradient_is_that_of_the_values(name, shape):
    filters = filters_of(*shape).requires_grad_()
    regulariser = built(name, filters)
    assert torch.autograd.gradcheck(lambda w: regulariser([w]), filters)


@pytest.mark.parametrize("gram", ["smaller", "filters"])
@pytest.mark.parametrize(
    ("shape", "length"), [*((shape, 1.0) for shape in SHAPES), ((7, 3), 0.2), ((3, 7), 0.2)]
)
def test_power_iteration_finds_the_spectral_norm_and_its_gradient(shape, length, gram):
    """Of short filters, more than they have numbers, WᵀW − I has the norm 1 whatever they are."""
    filters = (length * filters_of(*shape)).requires_grad_()
    regulariser = built("srip", filters, gram=gram)
    for iteration in range(400):
        regulariser.renew([filters.detach()], iteration)
    rows = filters.T if gram == "smaller" and shape[0] > shape[1] else filters
    expected = torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows)).double(), 2)
    found = regulariser([filters])
    plain = torch.linalg.matrix_norm(deviation(rows.detach()), 2)
    torch.testing.assert_close(expected.detach(), plain)
    pulls = gram == "smaller" or shape[0] <= shape[1] or length == 1
    assert pulls == bool(torch.autograd.grad(found, filters, retain_graph=True)[0].norm() > 1e-3)
    if not pulls:
        return
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(value, filters)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_orthonormal_filters_have_no_penalty():
    orthonormal = torch.linalg.qr(filters_of(6, 6)).Q[:4]
    for name in ("orthogonality", "srip"):
        assert float(built(name, orthonormal)([orthonormal])) < 1e-12
