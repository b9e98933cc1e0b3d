"""Batch normalisation over two processes: that of the whole batch."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from marginbench.errors import UserError
from marginbench.training.ranks import joined
from marginbench.training.synchronised_normalisation import synchronise_normalisation
from tests.training.rank_processes import SIZE, on_ranks


def _normalise(ranks, address, make, inputs, target):
    with joined(ranks, torch.device("cpu"), address):
        layer = make()
        holder = nn.Sequential(layer)
        synchronise_normalisation(holder, torch.device("cpu"))
        own, own_target = (
            torch.from_numpy(array).chunk(SIZE)[ranks.rank] for array in (inputs, target)
        )
        own = own.clone().requires_grad_()
        output = holder(own)
        (output * own_target).sum().backward()
        state = {name: tensor.numpy().copy() for name, tensor in holder[0].state_dict().items()}
        holder.eval()
        tensors = (output, own.grad, layer.weight.grad, holder(own))
        return [tensor.detach().numpy() for tensor in tensors], state


def batch_norm(kind, **options):
    torch.manual_seed(3)
    layer = kind(4, **options).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def timm_norm(**options):
    from timm.layers import BatchNormAct2d

    return batch_norm(BatchNormAct2d, **options)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (partial(batch_norm, nn.BatchNorm2d), (6, 4, 3, 3)),
        (partial(batch_norm, nn.BatchNorm2d, momentum=None), (6, 4, 2, 5)),
        (partial(batch_norm, nn.BatchNorm1d), (6, 4)),
        (timm_norm, (6, 4, 3, 3)),
    ],
)
def test_statistics_are_those_of_the_whole_batch(make, shape):
    inputs = torch.randn(shape, dtype=torch.float64) * 3 + 100
    target = torch.randn(shape, dtype=torch.float64)
    parts = on_ranks(_normalise, make, inputs.numpy(), target.numpy())
    layer = make()
    whole = inputs.clone().requires_grad_()
    output = layer(whole)
    (output * target).sum().backward()
    state = {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}
    layer.eval()
    outputs, gradients, weights, tested = zip(*(tensors for tensors, _ in parts), strict=True)
    close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    close(np.concatenate(outputs), output.detach())
    close(np.concatenate(gradients), whole.grad)
    close(sum(weights), layer.weight.grad)
    close(np.concatenate(tested), layer(inputs).detach())
    for _, own_state in parts:
        assert own_state.keys() == state.keys()
        for name, array in state.items():
            close(own_state[name], array)


def test_a_normalisation_of_another_kind_is_refused():
    class Other(nn.BatchNorm2d):
        pass

    with pytest.raises(UserError, match="'0' is a Other"):
        synchronise_normalisation(nn.Sequential(Other(3)), torch.device("cpu"))
