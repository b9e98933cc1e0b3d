"""Any image model of the library timm as a backbone: ``timm:resnet18``."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Literal

import torch
from torch import Tensor, nn

from marginbench.backbones import Backbone, register_backbone_family
from marginbench.errors import UserError
from marginbench.plugins.parameters import Fraction, PositiveInteger


class TimmBackbone(Backbone):
    """A timm model without its classifier, and a linear map to D features where asked for.

    Args:
        model: images (N, C, H, W) → (N, E).
        width: E.
        features: D; None for E, without a linear map.
    """

    def __init__(self, model: nn.Module, width: int, features: int | None) -> None:
        super().__init__()
        self.model = model
        self.linear = nn.Identity() if features is None else nn.Linear(width, features)
        self.out_features = features or width

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, D)."""
        return self.linear(self.model(images))


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


@register_backbone_family("timm", check_model)
def timm_model(
    model_name: str,
    image_shape: tuple[int, int, int],
    *,
    stem: Literal["original", "small"] = "original",
    patch: PositiveInteger = 4,
    features: PositiveInteger | None = None,
    drop_rate: Fraction = 0.0,
) -> TimmBackbone:
    """A timm model from random weights, for images with any number of channels.

    Args:
        model_name: as timm has it; pretrained weights are never loaded.
        image_shape: (C, H, W).
        stem: "original" as published, which quarters the image or worse at once; "small" for
            images of about 32×32: the first convolution at stride 1 (a ResNet's 3×3, without the
            pooling after it), and transformers cut into patches of ``patch`` pixels.
        patch: pixels a side, of transformers (and ConvNeXts, at most 4) with the small stem.
        features: D; None for the model's own, without a further linear map.
        drop_rate: dropout in front of the features.

    Raises:
        UserError: a model without a stem that can be made small, or that does not take such
            images.
    """
    owner = f"backbone 'timm:{model_name}'"
    model = _create(owner, model_name, image_shape, stem, patch, drop_rate)
    if stem == "small" and not _takes_patches(model_name):
        _shrink_stem(owner, model)
    return TimmBackbone(model, _output_width(owner, model, image_shape), features)


def _create(
    owner: str,
    model_name: str,
    image_shape: tuple[int, int, int],
    stem: str,
    patch: int,
    drop_rate: float,
) -> nn.Module:
    import timm

    channels, height, width = image_shape
    options: dict[str, Any] = {}
    if _takes_size(model_name):
        options["img_size"] = (height, width)
        if stem == "small":
            options["patch_size"] = patch
    elif stem == "small" and _takes_patches(model_name):
        options["patch_size"] = min(patch, 4)
    try:
        return timm.create_model(
            model_name,
            pretrained=False,
            num_classes=0,
            in_chans=channels,
            drop_rate=drop_rate,
            **options,
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"{owner} cannot be built for images of {channels}×{height}×{width}: {error}"
        ) from error


def _model_class(model_name: str) -> type[nn.Module]:
    """The class behind a model's name, found without building the model."""
    import timm

    module = inspect.getmodule(timm.model_entrypoint(model_name))
    for name in ("VisionTransformer", "ConvNeXt"):
        if (
            module is not None
            and name in vars(module)
            and vars(module)[name].__module__ == (module.__name__)
        ):
            return vars(module)[name]
    return nn.Module


def _takes_size(model_name: str) -> bool:
    return _model_class(model_name).__name__ == "VisionTransformer"


def _takes_patches(model_name: str) -> bool:
    return _model_class(model_name).__name__ in ("VisionTransformer", "ConvNeXt")


def _shrink_stem(owner: str, model: nn.Module) -> None:
    """First convolution at stride 1; of a ResNet also 3×3, without the pooling after it."""
    parent, name = _first_convolution(owner, model)
    old: nn.Conv2d = getattr(parent, name)
    kernel = min(old.kernel_size[0], 3)
    new = nn.Conv2d(
        old.in_channels,
        old.out_channels,
        kernel,
        stride=1,
        padding=kernel // 2,
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    setattr(parent, name, new)
    if isinstance(getattr(model, "maxpool", None), nn.Module):
        model.maxpool = nn.Identity()


def _first_convolution(owner: str, model: nn.Module) -> tuple[nn.Module, str]:
    """Where the stem's first convolution is: (parent, attribute)."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            outer, _, name = path.rpartition(".")
            parent = model.get_submodule(outer)
            if type(module) is nn.Conv2d and module.stride == (2, 2) and module.groups == 1:
                return parent, name
            break
    raise UserError(
        f"{owner}: stem = 'small' is not allowed, its first layer is no convolution of stride 2; "
        "allowed: stem = 'original'"
    )


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
