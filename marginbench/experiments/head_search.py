"""One search: a head in a setting, its trials as cells, and the final runs of a choice."""

from __future__ import annotations

from typing import Any

from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.experiments.cells import Cell
from marginbench.experiments.search import Measure
from marginbench.plugins.component import Component, FrozenValue
from marginbench.plugins.search_ranges import Range, range_from_json


def own_value(cell: Cell, name: str) -> Any:
    """A cell's value of "optimiser.FIELD" or "head.PARAMETER"; None where it has none."""
    owner, _, field = name.partition(".")
    if owner == "optimiser":
        return getattr(cell.optimiser, field)
    return cell.head.parameters.get(field)


class Trial(FrozenValue):
    """One point of a search.

    Attributes:
        values: what is searched, by "optimiser.FIELD" and "head.PARAMETER".
        optimiser: with them.
        head: with them, resolved, of the final runs.
        short_head: of the trial's own runs, which may be shorter.
    """

    values: dict[str, Any]
    optimiser: Optimiser
    head: Component
    short_head: Component


class HeadSearch(FrozenValue):
    """The search of one head in one setting.

    Attributes:
        head: its name.
        comparison: of the suite's own cells, see :attr:`Cell.comparison`.
        repeat: which of the repeated searches, from 0.
        by: what the choice goes by.
        declares: whether the head declares what is searched of its own parameters.
        ranges: what each parameter is drawn from, as JSON.
        base: the suite's own cell of the head, resolved; its first one where it has several.
        data: what the trials are trained and tested on, resolved, for each of their seeds.
        schedule: of the trials.
        trial_seeds: of each trial.
        final_seeds: of the final runs.
        finalists: how many of the trials are run with every seed, see :class:`Search`; None for
            all of them.
        trials: the points; the first one is the base's.
    """

    head: str
    comparison: str
    repeat: int
    by: Measure
    declares: bool
    ranges: dict[str, dict[str, Any]]
    base: Cell
    data: tuple[Component, ...]
    schedule: Schedule
    trial_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    finalists: int | None = None
    trials: tuple[Trial, ...]

    @property
    def parameters(self) -> dict[str, Range]:
        """What each parameter is drawn from."""
        return {name: range_from_json(content) for name, content in self.ranges.items()}

    @property
    def setting(self) -> str:
        """The setting's name, or what it consists of."""
        return self.base.setting or f"{self.base.data.name}, {self.base.backbone.name}"

    def own_value(self, name: str) -> Any:
        """A searched parameter's value in the suite."""
        return own_value(self.base, name)

    def trial_cells(self, number: int) -> list[Cell]:
        """The cells of a trial, one a seed."""
        trial = self.trials[number]
        return [
            self.base.model_copy(
                update={
                    "data": data,
                    "head": trial.short_head,
                    "optimiser": trial.optimiser,
                    "schedule": self.schedule,
                    "seed": seed,
                    "setting": f"{self.setting}: search",
                }
            )
            for seed, data in zip(self.trial_seeds, self.data, strict=True)
        ]

    def final_cells(self, number: int) -> list[Cell]:
        """The final runs with the parameters of a trial, one a seed."""
        trial = self.trials[number]
        change = {"head": trial.head, "optimiser": trial.optimiser}
        return [self.base.model_copy(update={**change, "seed": seed}) for seed in self.final_seeds]

    def default_cells(self) -> list[Cell]:
        """The suite's own cells with the same seeds."""
        return [self.base.model_copy(update={"seed": seed}) for seed in self.final_seeds]
