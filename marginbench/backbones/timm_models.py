"""Any image model of the library timm as a backbone: ``timm:resnet18``."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from marginbench.backbones import Backbone, register_backbone_family
from marginbench.backbones.timm_stems import shrink_stem, takes_patches, takes_size
from marginbench.backbones.timm_weights import (
    CHANNELS,
    load_published,
    normalisation,
    published_file,
)
from marginbench.errors import UserError
from marginbench.plugins.parameters import Fraction, OutOfKey, PositiveInteger


class TimmBackbone(Backbone):
    """A timm model without its classifier, and a linear map to D features where asked for.

    Args:
        model: images (N, C, H, W) → (N, E).
        width: E.
        features: D; None for E, without a linear map.
    """

    added_layers = ("linear",)

    def __init__(self, model: nn.Module, width: int, features: int | None) -> None:
        super().__init__()
        self.model = model
        self.linear = nn.Identity() if features is None else nn.Linear(width, features)
        self.out_features = features or width

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, D)."""
        return self.linear(self.model(images))


class PretrainedTimmBackbone(TimmBackbone):
    """A timm model for weights that others have trained, on images of three channels.

    A grey image is given to it as three equal channels. What is subtracted from the images before
    they come here is one number for all channels of a grey image; the rest of the weights' own
    normalisation is done here: (image − input_shift) / input_deviation, both (3, 1, 1).

    Args: those of :class:`TimmBackbone`, and
        model_name: as timm has it.
        build: makes the same model anew; its keyword ``weights`` are those that timm converts.
    """

    input_mean: Tensor
    input_shift: Tensor
    input_deviation: Tensor

    def __init__(
        self,
        model: nn.Module,
        width: int,
        features: int | None,
        model_name: str,
        build: Callable[..., nn.Module],
    ) -> None:
        super().__init__(model, width, features)
        self._model_name, self._build = model_name, build
        self.register_buffer("input_shift", torch.zeros(CHANNELS, 1, 1))
        self.register_buffer("input_deviation", torch.ones(CHANNELS, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) → (N, D)."""
        return super().forward((images - self.input_shift) / self.input_deviation)

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Weights in timm's layout, with timm's normalisation for the model of this name."""
        load_published(self.model, tensors, lambda found: self._build(weights=found))
        mean, deviation = (value.view(CHANNELS, 1, 1) for value in normalisation(self._model_name))
        subtracted = mean if len(self.input_mean) == CHANNELS else mean.mean(0, keepdim=True)
        self.input_mean.copy_(subtracted.expand_as(self.input_mean))
        self.input_shift.copy_(mean - subtracted)
        self.input_deviation.copy_(deviation)


def check_model(name: str) -> None:
    """Refuse a model that timm does not have.

    Raises:
        UserError: with the closest names that there are.
    """
    import timm

    if timm.is_model(name) and "/" not in name:
        return
    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f"; close: {', '.join(close)}" if close else ""
    raise UserError(
        f"backbone 'timm:{name}': timm {timm.__version__} has no model {name!r}{hint}; "
        "timm.list_models() names them all"
    )


@register_backbone_family("timm", check_model, published_file)
def timm_model(
    model_name: str,
    image_shape: tuple[int, int, int],
    *,
    stem: Literal["original", "small"] = "original",
    patch: PositiveInteger = 4,
    features: PositiveInteger | None = None,
    drop_rate: Fraction = 0.0,
    pretrained: Annotated[bool, OutOfKey()] = False,
    weights: Annotated[str | None, OutOfKey()] = None,
) -> TimmBackbone:
    """A timm model, for images with any number of channels; with given weights for 1 or 3.

    Args: those of :func:`marginbench.backbones.initial_weights.initial_weights`, and
        model_name: as timm has it.
        image_shape: (C, H, W).
        stem: "original" as published, which quarters the image or worse at once; "small" for
            images of about 32×32: the first convolution at stride 1 (a ResNet's 3×3, without the
            pooling after it), and transformers cut into patches of ``patch`` pixels.
        patch: pixels a side, of transformers (and ConvNeXts, at most 4) with the small stem.
        features: D; None for the model's own, without a further linear map.
        drop_rate: dropout in front of the features.
        pretrained: begin with the published weights, from timm's cache or fetched into it.

    Raises:
        UserError: a model without a stem that can be made small, or that does not take such
            images.
    """
    owner = f"backbone 'timm:{model_name}'"
    begins_with_weights = pretrained or weights is not None
    if begins_with_weights:
        if image_shape[0] not in (1, CHANNELS):
            raise UserError(
                f"{owner}: weights to begin with are not allowed for images of {image_shape[0]} "
                "channels; allowed: 1 (grey) or 3"
            )
        image_shape = (CHANNELS, *image_shape[1:])
    build = functools.partial(_create, owner, model_name, image_shape, stem, patch, drop_rate)
    model = build()
    if stem == "small" and not takes_patches(model_name):
        shrink_stem(owner, model)
    width = _output_width(owner, model, image_shape)
    if begins_with_weights:
        return PretrainedTimmBackbone(model, width, features, model_name, build)
    return TimmBackbone(model, width, features)


def _create(
    owner: str,
    model_name: str,
    image_shape: tuple[int, int, int],
    stem: str,
    patch: int,
    drop_rate: float,
    weights: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    import timm

    channels, height, width = image_shape
    options: dict[str, Any] = {}
    if takes_size(model_name):
        options["img_size"] = (height, width)
        if stem == "small":
            options["patch_size"] = patch
    elif stem == "small" and takes_patches(model_name):
        options["patch_size"] = min(patch, 4)
    if weights is not None:
        options["pretrained_cfg_overlay"] = {"state_dict": dict(weights)}
    try:
        return timm.create_model(
            model_name,
            pretrained=weights is not None,
            num_classes=0,
            in_chans=channels,
            drop_rate=drop_rate,
            **options,
        )
    except Exception as error:
        if weights is not None:
            # timm's conversions have nearly any exception for the weights of another model.
            words = " ".join(str(error).split())[:300]
            raise UserError(f"of another model: {words}") from error
        if not isinstance(error, (TypeError, ValueError, AssertionError, RuntimeError)):
            raise
        raise UserError(
            f"{owner} cannot be built for images of {channels}×{height}×{width}: {error}"
        ) from error


def _output_width(owner: str, model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """E, by trying: timm's num_features is another number for some models."""
    channels, height, width = image_shape
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            output = model(torch.zeros(2, *image_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else "no detail"
        raise UserError(
            f"{owner} does not take images of {channels}×{height}×{width}: {first_line}; "
            "resize them, or try stem = 'small' and a smaller patch"
        ) from error
    finally:
        model.train(was_training)
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise UserError(f"{owner} does not give one feature vector an image; choose another model")
    return output.shape[1]
