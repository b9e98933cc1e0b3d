"""The seeds of a head beside the baseline's: what both finished, and who diverged in which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from marginbench.runs.cell_status import FINISHED, State


@dataclass(frozen=True)
class Seeds:
    """The runs of one head that have ended, by seed.

    Attributes:
        values: of the runs that finished and have the measure.
        diverged: seeds of the others that ended.
        ended: seeds of all that ended.
    """

    values: Mapping[int, float]
    diverged: frozenset[int]
    ended: frozenset[int]

    @classmethod
    def of(cls, rows: pd.DataFrame, values: Mapping[int, float]) -> Seeds:
        """Of a head's rows in a table, and their values by seed."""
        states = dict(zip(rows["seed"], rows["state"], strict=True))
        return cls(
            values,
            frozenset(seed for seed, state in states.items() if state == State.DIVERGED.value),
            frozenset(seed for seed, state in states.items() if state in FINISHED),
        )


@dataclass(frozen=True)
class PairedSeeds:
    """A head and the baseline, seed by seed.

    Attributes:
        own, other: the head's seeds and the baseline's.
        below: only seeds below this number count.
    """

    own: Seeds
    other: Seeds
    below: float = math.inf

    @property
    def values(self) -> list[tuple[int, float, float]]:
        """(seed, the head's value, the baseline's) of the seeds that both finished."""
        own, other = self.own.values, self.other.values
        return [(s, own[s], other[s]) for s in sorted(own.keys() & other.keys()) if s < self.below]

    @property
    def diverged(self) -> int:
        """In how many seeds the head diverged."""
        return sum(seed < self.below for seed in self.own.diverged)

    @property
    def baseline_diverged(self) -> int:
        """In how many seeds the baseline diverged, of those in which the head has ended."""
        return sum(seed < self.below for seed in self.other.diverged & self.own.ended)

    def gains(self, sign: int) -> tuple[float, ...]:
        """What the head gains on the baseline in each seed that both finished.

        Args:
            sign: 1 where higher values are better, −1 where lower ones are.
        """
        return tuple(sign * (own - other) for _, own, other in self.values)

    def outcomes(self, sign: int) -> list[float]:
        """:meth:`gains`, and ±∞ for each seed in which one of the two diverged.

        A diverged run has lost against a finished one; two diverged runs are no pair.
        """
        lost = sum(seed < self.below for seed in self.own.diverged & self.other.values.keys())
        won = sum(seed < self.below for seed in self.other.diverged & self.own.values.keys())
        return [*self.gains(sign), *[-math.inf] * lost, *[math.inf] * won]
