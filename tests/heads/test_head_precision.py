"""A head computes in the precision that it was converted to, with parameters or without."""

import copy

import pytest
import torch
from pytorch_metric_learning import losses

from marginbench.heads import Head, build_head
from marginbench.heads.pml import _losses
from tests.conftest import built_in_heads
from tests.heads.test_pml_heads import NEEDED

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pytorch_metric_learning")


class Bare(Head):
    """A head with neither parameters nor buffers, and one with a buffer of another precision."""

    def __init__(self, counts):
        super().__init__(8, 4)
        if counts:
            self.register_buffer("counts", torch.zeros(4, dtype=torch.float64))

    def loss(self, features, labels):
        return features.square().mean()

    def scores(self, features):
        return features[:, :4]


def heads():
    for name in (*built_in_heads(), *(f"pml:{name}" for name in sorted(_losses(losses)))):
        given = NEEDED.get(name.removeprefix("pml:"), {})
        yield pytest.param(lambda name=name, given=given: build_head(name, 8, 4, **given), id=name)
    yield pytest.param(lambda: Bare(counts=False), id="bare")
    yield pytest.param(lambda: Bare(counts=True), id="counts")


@pytest.mark.parametrize("make", list(heads()))
def test_a_head_computes_in_the_precision_that_it_was_converted_to(make):
    torch.manual_seed(1)
    head = make()
    features = torch.randn(16, 8, dtype=torch.float64)
    labels = torch.arange(16) % 4
    kept, loss = [], head.loss
    head.loss = lambda x, y: (kept.append(x), loss(x, y))[1]
    head(features, labels)
    head.double()(features, labels)
    head.logits(features)
    assert [x.dtype for x in kept] == [torch.float32, torch.float64]
    assert torch.equal(kept[1], features)
    del head.loss
    torch.nn.Sequential(head).float()
    assert head._in_own_precision(features).dtype == torch.float32
    assert copy.deepcopy(head.double())._in_own_precision(features).dtype == torch.float64
