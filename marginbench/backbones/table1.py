"""The networks of Table 1 in Liu et al., Large-Margin Softmax Loss, ICML 2016."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from marginbench.backbones import register_backbone
from marginbench.backbones.decoupled import (
    Angular,
    Conv,
    Curvature,
    Magnitude,
    Operator,
    Radius,
    Slope,
    WeightNorm,
)
from marginbench.backbones.plain import PlainNetwork
from marginbench.errors import UserError
from marginbench.plugins.parameters import AddedLater, Positive, PositiveInteger


@dataclass(frozen=True)
class Network:
    """A column of Table 1.

    Attributes:
        filters: of Conv0, Conv1, ..., as printed; Conv0 is left out where the paper has none.
        depths: convolutions in each of these blocks.
        kernel: of every convolution.
        features: D of the fully connected layer.
        has_stem: whether the first block is Conv0, which no pooling follows.
        image_shape: (C, H, W) that the paper feeds it.
        stem_stride: of Conv0.
        activate_features: whether batch normalisation and PReLU follow the fully connected layer.
            The paper says no more of that layer than its size. The authors' Caffe networks
            normalise and activate it, and Fig. 2 shows features of either sign, so there it is
            bare. For LFW the features themselves are compared, which an activation would confine
            to one orthant.
    """

    filters: tuple[int, ...]
    depths: tuple[int, ...]
    kernel: int
    features: int
    has_stem: bool
    image_shape: tuple[int, int, int]
    stem_stride: int = 1
    activate_features: bool = True


POOLED_STAGES = 3
"""2×2 max pooling follows Conv1, Conv2 and Conv3; not Conv0, and not LFW's Conv4."""

NETWORKS = {
    "mnist-fig2": Network(
        (32, 64, 128), (2, 2, 2), 5, 2, False, (1, 28, 28), activate_features=False
    ),
    "mnist": Network((64, 64, 64, 64), (1, 3, 3, 3), 3, 256, True, (1, 28, 28)),
    "cifar10": Network((64, 64, 96, 128), (1, 4, 4, 4), 3, 256, True, (3, 32, 32)),
    "cifar100": Network((96, 96, 192, 384), (1, 4, 4, 4), 3, 512, True, (3, 32, 32)),
    "lfw": Network(
        (64, 64, 256, 256, 256),
        (1, 4, 4, 4, 4),
        3,
        512,
        True,
        (3, 112, 96),
        stem_stride=2,
        activate_features=False,
    ),
}
"""By the backbone's name. The paper does not give LFW's image size; 112×96 is that of the same
authors' SphereFace (CVPR 2017)."""


def build_network(
    name: str,
    image_shape: tuple[int, int, int],
    *,
    width: float = 1.0,
    filters: tuple[int, ...] = (),
    features: int | None = None,
    activate_features: bool = False,
    operator: Operator = Operator(),  # noqa: B008
) -> PlainNetwork:
    """A network of Table 1, at its width or another one.

    Args:
        name: a key of :data:`NETWORKS`.
        image_shape: (C, H, W); the fully connected layer adapts to it.
        width: what the printed numbers of filters are multiplied by, > 0; rounded, at least 1.
        filters: of each block, instead of the printed ones; empty for those.
        features: D; None for the printed one.
        activate_features: batch normalisation and PReLU of the features.
        operator: of the convolutions.

    Raises:
        UserError: both ``width`` and ``filters``, another number of filters than of blocks, or a
            parameter of an operator that is not in use.
    """
    network = NETWORKS[name]
    operator.check(f"backbone {name!r}")
    if filters and width != 1:
        raise UserError(
            f"backbone {name!r}: width = {width:g} beside filters = {list(filters)} is not "
            "allowed; allowed: one of the two"
        )
    if filters and len(filters) != len(network.filters):
        first = 0 if network.has_stem else 1
        raise UserError(
            f"backbone {name!r}: filters = {list(filters)} is not allowed; allowed: "
            f"{len(network.filters)} numbers, of Conv{first} to "
            f"Conv{first + len(network.filters) - 1}, or none"
        )
    chosen = filters or tuple(max(1, round(width * number)) for number in network.filters)
    blocks = [(n,) * depth for n, depth in zip(chosen, network.depths, strict=True)]
    stem = blocks.pop(0) if network.has_stem else ()
    return PlainNetwork(
        image_shape,
        tuple(blocks[:POOLED_STAGES]),
        network.kernel,
        features or network.features,
        normalise_features=activate_features,
        activate_features=activate_features,
        stem=stem,
        stem_stride=network.stem_stride,
        tail=tuple(number for block in blocks[POOLED_STAGES:] for number in block),
        operator=operator,
    )


def _builder(name: str) -> Callable[..., PlainNetwork]:
    network = NETWORKS[name]

    def build(
        image_shape: tuple[int, int, int],
        *,
        width: Positive = 1.0,
        filters: tuple[PositiveInteger, ...] = (),
        features: PositiveInteger = network.features,
        activate_features: bool = network.activate_features,
        conv: Annotated[Conv, AddedLater("plain")] = "plain",
        angular: Annotated[Angular, AddedLater("cosine")] = "cosine",
        curvature: Annotated[Curvature, AddedLater(0.3)] = 0.3,
        magnitude: Annotated[Magnitude, AddedLater("tanh")] = "tanh",
        radius: Annotated[Radius, AddedLater(1.0)] = 1.0,
        learn_radius: Annotated[bool, AddedLater(False)] = False,
        slope: Annotated[Slope, AddedLater(0.5)] = 0.5,
        weight_norm: Annotated[WeightNorm, AddedLater("none")] = "none",
    ) -> PlainNetwork:
        operator = Operator(
            conv, angular, curvature, magnitude, radius, learn_radius, slope, weight_norm
        )
        return build_network(
            name,
            image_shape,
            width=width,
            filters=filters,
            features=features,
            activate_features=activate_features,
            operator=operator,
        )

    return build


# Names as literals: who registers them is read off the source.
register_backbone("mnist-fig2")(_builder("mnist-fig2"))
register_backbone("mnist")(_builder("mnist"))
register_backbone("cifar10")(_builder("cifar10"))
register_backbone("cifar100")(_builder("cifar100"))
register_backbone("lfw")(_builder("lfw"))
