"""The first layers of timm's models, made to keep the resolution of small images."""

from __future__ import annotations

import inspect

from torch import nn

from marginbench.errors import UserError


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


def takes_size(model_name: str) -> bool:
    """Whether a model is built for one size of images, and takes it as an argument."""
    return _model_class(model_name).__name__ == "VisionTransformer"


def takes_patches(model_name: str) -> bool:
    """Whether a model cuts its images into patches whose size is an argument."""
    return _model_class(model_name).__name__ in ("VisionTransformer", "ConvNeXt")


def shrink_stem(owner: str, model: nn.Module) -> None:
    """First convolution at stride 1; of a ResNet also 3×3, without the pooling after it.

    Args:
        owner: the backbone, for messages.
        model: changed in place.

    Raises:
        UserError: its first layer is no convolution of stride 2.
    """
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
