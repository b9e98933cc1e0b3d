"""What trials are trained on, and with which seeds, so that no final run is tested on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.experiments.resolution import Resolver
from marginbench.experiments.search import Measure, Search
from marginbench.plugins.component import Component
from marginbench.plugins.parameters import parameter_model
from marginbench.text import quoted


@dataclass(frozen=True)
class DataFacts:
    """What a search has to know of its data.

    Attributes:
        classes: how many are trained on.
        is_open: whether classes that are not trained on, or people, are verified.
        tests_images: whether there are test images of the classes that are trained on.
    """

    classes: int
    is_open: bool
    tests_images: bool


class KnownData:
    """Loads each of the data once."""

    def __init__(self) -> None:
        self._known: dict[str, DataFacts] = {}

    def of(self, data: Component) -> DataFacts:
        """What there is to know."""
        from marginbench.data import load_data

        text = data.model_dump_json()
        if text not in self._known:
            loaded = load_data(data.name, data.parameters)
            self._known[text] = DataFacts(
                loaded.num_classes, bool(loaded.verification), len(loaded.test_images) > 0
            )
        return self._known[text]


def validated_data(
    base: Cell, search: Search, by: Measure, repeat: int, resolver: Resolver, facts: DataFacts
) -> tuple[Component, ...]:
    """The data of a trial, resolved: trained and tested on what is no test image.

    Each seed of a trial has a validation set of its own, the same for every trial and head: so a
    choice is by more images, or classes, than are held out at a time.

    Raises:
        UserError: the source holds nothing out, or not what the choice goes by.
    """
    from marginbench.data import data_source_function

    data = base.data
    owner = f"data source {data.name!r}"
    fields = parameter_model(owner, data_source_function(data.name)).model_fields
    if "validation" not in fields:
        raise UserError(
            f"{owner} cannot be searched on: it has no parameter 'validation', and so holds no "
            "images out of training"
        )
    if data.parameters["validation"] != "none":
        raise UserError(
            f"{owner}: validation = {data.parameters['validation']!r} is not allowed in a suite "
            "that is searched; allowed: 'none', as the search holds out its own images"
        )
    takes_classes = "classes" in get_args(fields["validation"].annotation)
    if by == "verification" and takes_classes and not facts.is_open:
        raise UserError(
            f"search: by = 'verification' is not allowed with {owner} as it is: no classes are "
            "left out; allowed: 'error'"
        )
    # So many test images: there are fewer held-out ones.
    values = {name: value for name, value in data.parameters.items() if name != "test_count"}
    values["validation"] = "classes" if by == "verification" and takes_classes else "held-out"
    draws = range(search.seeds * repeat, search.seeds * (repeat + 1))
    drawn = [{"validation_draw": draw} if "validation_draw" in fields else {} for draw in draws]
    components = [Component(name=data.name, parameters=values | one) for one in drawn]
    return tuple(resolver(base.model_copy(update={"data": one})).data for one in components)


def seeds_by_repeat(
    base: Cell, search: Search, seeds: list[int], repeats: int | None
) -> list[tuple[int, ...]]:
    """The seeds of the final runs, for each of the repeated searches.

    Raises:
        UserError: repeats or seeds that do not go together.
    """
    per_seed = _is_searched_per_seed(base)
    number = (len(seeds) if per_seed else 1) if repeats is None else repeats
    if number == 1 and not (per_seed and len(seeds) > 1):
        return [tuple(seeds)]
    if number != len(seeds):
        why = (
            "a split per seed without search_share is searched once a seed, or what is validated "
            "would be tested"
            if per_seed
            else "each repeated search has one final run, with a seed of its own"
        )
        raise UserError(
            f"repeats = {number} is not allowed with {len(seeds)} seeds in the setting "
            f"{quoted(base.setting)}: {why}; allowed: {len(seeds)}"
        )
    if per_seed and search.seeds > 1:
        raise UserError(
            f"search: seeds = {search.seeds} is not allowed with a split per seed; allowed: 1"
        )
    return [(seed,) for seed in seeds]


def trial_seeds(
    base: Cell, search: Search, repeat: int, final_seeds: tuple[int, ...]
) -> tuple[int, ...]:
    """Of each trial of a repeat; where the split is drawn by the seed, that of its final run."""
    per_seed = _is_searched_per_seed(base)
    first = final_seeds[0] if per_seed else search.seeds * repeat
    return tuple(range(first, first + search.seeds))


def _is_searched_per_seed(base: Cell) -> bool:
    """Whether what is tested depends on the seed, and no images are for the search alone."""
    given = base.data.parameters
    return given.get("split") == "per-seed" and not given.get("search_share")
