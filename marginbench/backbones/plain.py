"""Plain convolutional networks: stages of 3×3 convolutions, batch normalisation, PReLU, pooling."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from marginbench.backbones import Backbone, register_backbone
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
from marginbench.plugins.parameters import AddedLater, PositiveInteger


class PlainNetwork(Backbone):
    """Stages of (convolution, batch normalisation, PReLU), each closed by 2×2 max pooling.

    Pooling rounds up, as in Caffe. The features are a linear map of the last stage's output,
    with no activation after it unless asked for. Convolutions and the linear map are
    He-initialised (fan-in).

    Args:
        image_shape: (C, H, W).
        stages: filters of each convolution, stage by stage.
        kernel: odd; padding keeps the size.
        features: D.
        normalise_features: batch normalisation of the features.
        activate_features: PReLU of the features, after their normalisation.
        stem: filters of the convolutions before the first stage; no pooling after them.
        stem_stride: of the stem's first convolution.
        tail: filters of the convolutions after the last stage; no pooling after them.
        operator: of the convolutions; the linear map is an inner product always.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        stages: tuple[tuple[int, ...], ...],
        kernel: int,
        features: int,
        normalise_features: bool = False,
        *,
        activate_features: bool = False,
        stem: tuple[int, ...] = (),
        stem_stride: int = 1,
        tail: tuple[int, ...] = (),
        operator: Operator = Operator(),  # noqa: B008
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []

        def convolve(stage: tuple[int, ...], stride: int = 1) -> None:
            nonlocal channels, height, width
            for filters in stage:
                layers.append(
                    operator.convolution(channels, filters, kernel, stride, padding=kernel // 2)
                )
                layers.extend([nn.BatchNorm2d(filters), nn.PReLU(filters)])
                channels = filters
                height, width = -(-height // stride), -(-width // stride)
                stride = 1

        convolve(stem, stem_stride)
        for stage in stages:
            convolve(stage)
            layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
            height, width = -(-height // 2), -(-width // 2)
        convolve(tail)
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Linear(channels * height * width, features)
        self.out_features = features
        self.normalisation = nn.BatchNorm1d(features) if normalise_features else nn.Identity()
        self.activation = nn.PReLU(features) if activate_features else nn.Identity()
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, D)."""
        features = self.linear(self.convolutions(images).flatten(1))
        return self.activation(self.normalisation(features))


@register_backbone("small")
def small(
    image_shape: tuple[int, int, int],
    *,
    widths: tuple[PositiveInteger, ...] = (16, 32),
    features: PositiveInteger = 32,
    normalise_features: bool = True,
    conv: Annotated[Conv, AddedLater("plain")] = "plain",
    angular: Annotated[Angular, AddedLater("cosine")] = "cosine",
    curvature: Annotated[Curvature, AddedLater(0.3)] = 0.3,
    magnitude: Annotated[Magnitude, AddedLater("tanh")] = "tanh",
    radius: Annotated[Radius, AddedLater(1.0)] = 1.0,
    learn_radius: Annotated[bool, AddedLater(False)] = False,
    slope: Annotated[Slope, AddedLater(0.5)] = 0.5,
    weight_norm: Annotated[WeightNorm, AddedLater("none")] = "none",
) -> PlainNetwork:
    """A small network for small images: two 3×3 convolutions a stage, batch-normalised PReLU.

    Args:
        image_shape: (C, H, W).
        widths: filters of each stage.
        features: D; 2 for features that can be drawn.
        normalise_features: batch normalisation of the features, which keeps losses of very
            different steepness trainable at one learning rate.
        conv, angular, curvature, magnitude, radius, learn_radius, slope, weight_norm: see
            :class:`marginbench.backbones.decoupled.Operator`.

    Raises:
        UserError: a parameter of an operator that ``conv`` does not have.
    """
    operator = Operator(
        conv, angular, curvature, magnitude, radius, learn_radius, slope, weight_norm
    )
    operator.check("backbone 'small'")
    stages = tuple((width, width) for width in widths)
    return PlainNetwork(image_shape, stages, 3, features, normalise_features, operator=operator)
