"""Heads, backbones and regularisers that are not built in, tried once before any training."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from marginbench.backbones import backbone_function, build_backbone
from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.heads import build_head, head_class
from marginbench.plugins.loading import as_user_error
from marginbench.regularisers import regulariser_class
from marginbench.training.regularisation import build_regularisation

IMAGES = 8
_PACKAGE = "marginbench."
DataShape = tuple[tuple[int, int, int], int]
"""(C, H, W), and the number of classes."""


def check_models(cells: Sequence[Cell], shapes: Mapping[str, DataShape]) -> list[str]:
    """One pass forward and back of each model with a part that is not built in, on the CPU.

    Models of built-in parts are not even built. torch's generator is left as it was.

    Args:
        cells: resolved.
        shapes: of their data, by the data's JSON; see :func:`marginbench.data.check_data`.

    Returns:
        What fails in some cells, or returns something else than it must: the part, its file and the
        line. The other cells may be trained.

    Raises:
        UserError: the same, if no cell is left.
    """
    tried: dict[tuple[str, ...], str] = {}
    failing = []
    for cell in cells:
        own = {
            "backbone": _own(backbone_function(cell.backbone.name)),
            "head": _own(head_class(cell.head.name)),
            "regulariser": cell.regulariser is not None
            and _own(regulariser_class(cell.regulariser.name)),
        }
        parts = [getattr(cell, part).model_dump_json() for part, is_own in own.items() if is_own]
        case = (*parts, cell.backbone.model_dump_json(), cell.data.model_dump_json())
        if parts and case not in tried:
            tried[case] = ""
            try:
                with torch.random.fork_rng(devices=[]):
                    _try(cell, *shapes[cell.data.model_dump_json()], forward=own["backbone"])
            except UserError as error:
                tried[case] = str(error)
        failing.append(tried[case] if parts else "")
    found = list(dict.fromkeys(filter(None, failing)))
    if found and all(failing):
        raise UserError("; ".join(found))
    return found


def _own(definition: Callable[..., Any]) -> bool:
    return not definition.__module__.startswith(_PACKAGE)


def _try(cell: Cell, image_shape: tuple[int, int, int], num_classes: int, *, forward: bool) -> None:
    labels = torch.arange(IMAGES) // 2 % num_classes
    name = cell.backbone.name
    with _part("backbone", name, backbone_function(name)):
        backbone = build_backbone(name, image_shape, cell.backbone.parameters).train()
        size = (IMAGES, backbone.out_features)
        features = backbone(torch.rand(IMAGES, *image_shape) - 0.5) if forward else None
        features = torch.randn(size).requires_grad_() if features is None else features
        if not isinstance(features, torch.Tensor) or tuple(features.shape) != size:
            raise UserError(
                f"backbone {name!r}: it makes {_described(features)} of {IMAGES} images; "
                f"expected: a tensor {size}, as out_features = {size[1]}"
            )
    with _part("head", cell.head.name, head_class(cell.head.name)):
        head = build_head(cell.head.name, size[1], num_classes, **cell.head.parameters).train()
        loss = head(features.float(), labels)
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            raise UserError(
                f"head {cell.head.name!r}: its loss is {_described(loss)}; expected: a scalar"
            )
    if cell.regulariser is not None:
        name = cell.regulariser.name
        with _part("regulariser", name, regulariser_class(name)):
            regularisation = build_regularisation(cell, backbone, head, torch.device("cpu"))
            loss = loss if regularisation is None else loss + regularisation.value()
    with _part("head", cell.head.name, head_class(cell.head.name)):
        loss.backward()


def _part(
    kind: str, name: str, definition: Callable[..., Any]
) -> contextlib.AbstractContextManager[None]:
    """A block that runs a part's code: its errors become one line, with its file and line."""
    try:
        file, line = inspect.getsourcefile(definition), inspect.getsourcelines(definition)[1]
    except (OSError, TypeError):
        file, line = None, None
    where = "" if file is None else f" ({file})"
    return as_user_error(f"{kind} {name!r}{where}", Path(file or ""), line)


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)}"
    return f"a {type(value).__name__}"
