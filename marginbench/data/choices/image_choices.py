"""The parameters by which every data source of whole sets takes a part of its images."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from marginbench.data import ImageData
from marginbench.data.choices.image_sets import ImageSets
from marginbench.data.choices.splits import (
    Draw,
    SearchShare,
    Split,
    Validation,
    choose_images,
)
from marginbench.plugins.parameters import AddedLater, PositiveInteger

ClassNumber = Annotated[int, Field(ge=0)]


def with_image_choices(load: Callable[..., ImageSets]) -> Callable[..., ImageData]:
    """Decorator of a data source, below ``@data_source``: adds the parameters of its choices.

    These are ``validation``, ``train_count``, ``test_count``, ``left_out``, ``validation_draw``,
    ``split``, ``search_share`` and ``classes``, see
    :func:`marginbench.data.choices.splits.choose_images`.

    Args:
        load: its keyword-only arguments are the source's own parameters.

    Returns:
        The source: own parameters and choices → what a cell trains and tests on. Its positional
        argument is the seed of a split that is drawn per seed.
    """

    def source(
        split_seed: int | None = None,
        *,
        validation: Validation = "none",
        train_count: PositiveInteger | None = None,
        test_count: PositiveInteger | None = None,
        left_out: tuple[ClassNumber, ...] = (),
        validation_draw: Annotated[Draw, AddedLater(0)] = 0,
        split: Annotated[Split, AddedLater("fixed")] = "fixed",
        search_share: Annotated[SearchShare, AddedLater(0.0)] = 0.0,
        classes: Annotated[tuple[ClassNumber, ...], AddedLater(())] = (),
        **own: Any,
    ) -> ImageData:
        return choose_images(
            load(**own),
            validation,
            train_count,
            test_count,
            left_out,
            validation_draw=validation_draw,
            split_seed=split_seed,
            search_share=search_share,
            classes=classes,
        )

    added = dict(inspect.signature(source, eval_str=True).parameters)
    del added["own"]
    # What is positional comes first.
    seed = {"split_seed": added.pop("split_seed")}
    declared = {**seed, **inspect.signature(load, eval_str=True).parameters, **added}
    functools.update_wrapper(source, load)
    source.__signature__ = inspect.Signature(list(declared.values()))  # type: ignore[attr-defined]
    source.__annotations__ = {name: one.annotation for name, one in declared.items()}
    return source
