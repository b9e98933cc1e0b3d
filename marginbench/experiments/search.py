"""What a suite says of its search for hyper-parameters. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.plugins.search_ranges import LogUniform, Range
from marginbench.text import quoted

TRIALS = 16
"""For every head, unless the suite or ``--trials`` says otherwise (Gulrajani, Lopez-Paz, ICLR 2021
take 20, Musgrave et al., ECCV 2020, 50)."""

SHARED: Mapping[str, Range] = {
    "learning_rate": LogUniform(0.1, 4.0, relative=True),
    "head_rate": LogUniform(0.1, 10.0),
    "weight_decay": LogUniform(1e-5, 5e-3),
}
"""Fields of :class:`Optimiser` that are searched for every head. Metric-learning losses want the
learning rate of the class weights apart from the backbone's (Musgrave et al., ECCV 2020)."""

SEARCHABLE = tuple(name for name in Optimiser.model_fields if name != "kind")

Measure = Literal["error", "verification"]
"""What a choice goes by: the error on held-out images, or 1 − accuracy on held-out pairs."""


@dataclass(frozen=True)
class Search:
    """How the hyper-parameters of a suite are searched: ``@suite(..., search=Search(...))``.

    Attributes:
        trials: for every head of every setting, the suite's own parameters among them.
        seeds: of each trial, each with a validation set of its own; a choice is by the mean.
        finalists: so many trials, the best by their first seed, are run with the other seeds, and
            the choice is among them; None for all trials. It keeps a lucky run from being chosen
            at a fraction of the cost (one round of successive halving: Jamieson, Talwalkar,
            *Non-stochastic Best Arm Identification*, AISTATS 2016).
        length: of a trial, as a share of the final runs' iterations, above 0 and up to 1.
            Milestones, warm-up, and a head's rates an iteration are scaled with it.
        by: what a choice goes by; None for verification where classes are left out or there are no
            test images, and else for the error.
        settings: the settings that are searched; None for all.
        shared: ranges in position of :data:`SHARED`'s, by field; None leaves a field as it is.
        heads: ranges in position of the heads' own, by head and parameter; None likewise.
    """

    trials: int = TRIALS
    seeds: int = 1
    finalists: int | None = None
    length: float = 1.0
    by: Measure | None = None
    settings: tuple[str, ...] | None = None
    shared: Mapping[str, Range | None] = field(default_factory=dict)
    heads: Mapping[str, Mapping[str, Range | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("trials", "seeds"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(f"search: {name} = {quoted(value)} is not allowed; allowed: ≥ 1")
        if self.finalists is not None and (type(self.finalists) is not int or self.finalists < 1):
            raise UserError(
                f"search: finalists = {quoted(self.finalists)} is not allowed; allowed: None, or "
                "an integer ≥ 1"
            )
        if self.finalists is not None and self.seeds == 1:
            raise UserError(
                f"search: finalists = {self.finalists} is not allowed with seeds = 1, as there is "
                "no further seed to run them with; allowed: None, or seeds ≥ 2"
            )
        if not isinstance(self.length, (int, float)) or not 0 < self.length <= 1:
            raise UserError(
                f"search: length = {quoted(self.length)} is not allowed; allowed: above 0, up to 1"
            )
        if self.by not in (None, "error", "verification"):
            raise UserError(
                f"search: by = {quoted(self.by)} is not allowed; allowed: 'error', 'verification'"
            )
        for owner, ranges in [("shared", self.shared), *self.heads.items()]:
            for name, drawn in ranges.items():
                if drawn is not None and not isinstance(drawn, Range):
                    raise UserError(
                        f"search: {owner}: {name} = {quoted(drawn)} is not allowed; allowed: "
                        "Uniform, LogUniform, Choice, or None"
                    )
        for name in self.shared:
            if name not in SEARCHABLE:
                raise UserError(
                    f"search: shared = {quoted(name)} is not allowed; allowed: "
                    + ", ".join(SEARCHABLE)
                )

    def ranges(self, head: str, declared: Mapping[str, Range] | None) -> dict[str, Range]:
        """The ranges of a head by "optimiser.FIELD" and "head.PARAMETER", the shared ones first."""
        shared = {**SHARED, **self.shared}
        own = {**(declared or {}), **self.heads.get(head, {})}
        named = [("optimiser", shared), ("head", own)]
        return {
            f"{owner}.{name}": drawn
            for owner, ranges in named
            for name, drawn in ranges.items()
            if drawn is not None
        }

    def shortened(self, schedule: Schedule) -> Schedule:
        """The schedule of a trial."""
        if self.length == 1:
            return schedule
        iterations = max(1, round(schedule.iterations * self.length))
        milestones = sorted({round(m * self.length) for m in schedule.milestones})
        return schedule.model_copy(
            update={
                "iterations": iterations,
                "milestones": tuple(m for m in milestones if 0 < m < iterations),
                "warm_up": min(round(schedule.warm_up * self.length), iterations - 1),
                "evaluations": min(schedule.evaluations, iterations),
            }
        )


def sobol_points(dimensions: int, count: int, head: str, repeat: int) -> list[list[float]]:
    """Points of a scrambled Sobol sequence, whose beginning does not depend on their number.

    Owen, *Scrambling Sobol' and Niederreiter–Xing points*, Journal of Complexity, 1998.

    Args:
        dimensions: of a point, ≥ 1.
        count: of points.
        head: the head's name, and
        repeat: which search it is: both draw the scrambling.

    Returns:
        Positions in [0, 1).
    """
    # Imported here: what only names a search does without.
    import numpy as np
    from scipy.stats import qmc

    digest = hashlib.sha256(f"search/{repeat}/{head}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    sequence = qmc.Sobol(dimensions, scramble=True, seed=random)
    with warnings.catch_warnings():
        # That its numbers are no power of two: of nested designs most are not.
        warnings.simplefilter("ignore", UserWarning)
        positions: list[list[float]] = sequence.random(count).tolist()
    return positions
