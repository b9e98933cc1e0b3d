"""The parameters by which every data source of whole sets takes a part of its images."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from marginbench.data import ImageData
from marginbench.data.choices.splits import ImageSets, Validation, choose_images
from marginbench.plugins.parameters import PositiveInteger

ClassNumber = Annotated[int, Field(ge=0)]


def with_image_choices(load: Callable[..., ImageSets]) -> Callable[..., ImageData]:
    """Decorator of a data source, below ``@data_source``: adds the parameters of its choices.

    These are ``validation``, ``train_count``, ``test_count`` and ``left_out``, of
    :func:`marginbench.data.choices.splits.choose_images`.

    Args:
        load: its keyword-only arguments are the source's own parameters.

    Returns:
        The source: own parameters and choices → what a cell trains and tests on.
    """

    def source(
        *,
        validation: Validation = "none",
        train_count: PositiveInteger | None = None,
        test_count: PositiveInteger | None = None,
        left_out: tuple[ClassNumber, ...] = (),
        **own: Any,
    ) -> ImageData:
        return choose_images(load(**own), validation, train_count, test_count, left_out)

    added = inspect.signature(source, eval_str=True).parameters
    declared = {**inspect.signature(load, eval_str=True).parameters, **added}
    del declared["own"]
    functools.update_wrapper(source, load)
    source.__signature__ = inspect.Signature(list(declared.values()))  # type: ignore[attr-defined]
    source.__annotations__ = {name: one.annotation for name, one in declared.items()}
    return source
