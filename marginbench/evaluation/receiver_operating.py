"""The receiver operating characteristic of verification scores, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from marginbench.evaluation.ranked_rates import Ranking, ranking_of

FALSE_ACCEPTANCE_RATES = (1e-1, 1e-2, 1e-3, 1e-4)
FEW_FALSE_ACCEPTANCES = 10
REPLICATES = 1000
LEVEL = 0.95
_CHUNK = 50
_FEW_PEOPLE = 7
"""So few are drawn alike again and again: seven in at most 1,716 ways."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; None where it cannot be had.

    Attributes:
        value: from all pairs.
        low, high: of the 95 % percentile interval of the bootstrap.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class OperatingPoint:
    """TAR at a FAR.

    Attributes:
        far: asked for.
        tar: None where the pairs are too few: not one false acceptance is allowed then.
        note: a warning for the report, or empty.
    """

    far: float
    tar: Estimate | None
    note: str


@dataclass(frozen=True)
class Characteristic:
    """What scores are worth.

    Attributes:
        area: under the ROC curve.
        equal_error_rate: see :meth:`marginbench.evaluation.ranked_rates.Rates.equal_error_rate`.
        points: TAR at each of :data:`FALSE_ACCEPTANCE_RATES`.
        accuracy: the share of right decisions.
        resampled: what the bootstrap drew: "people" or "pairs".
    """

    area: Estimate
    equal_error_rate: Estimate
    points: tuple[OperatingPoint, ...]
    accuracy: Estimate
    resampled: str

    @classmethod
    def of_numbers(cls, numbers: dict[str, Any]) -> Characteristic:
        """What :func:`dataclasses.asdict` made numbers of, perhaps by way of JSON."""
        points = [
            OperatingPoint(one["far"], one["tar"] and Estimate(**one["tar"]), one["note"])
            for one in numbers["points"]
        ]
        estimates = {
            name: Estimate(**numbers[name]) for name in ("area", "equal_error_rate", "accuracy")
        }
        return cls(**estimates, points=tuple(points), resampled=numbers["resampled"])


def characteristic(
    scores: np.ndarray,
    same: np.ndarray,
    right: np.ndarray,
    people: tuple[np.ndarray, np.ndarray] | None,
    *,
    replicates: int = REPLICATES,
) -> Characteristic:
    """Area, equal error rate, TAR at FARs and accuracy, with bootstrap intervals.

    Pairs that share a person are not independent, so people are resampled, not pairs: one drawn k
    times brings its same pairs k times, and a different pair counts as often as its two people's
    draws multiplied (the vertex bootstrap of Snijders and Borgatti, 1999). The draws have a fixed
    seed.

    Args:
        scores: (P,).
        same: (P,), bool.
        right: (P,), bool: whether the protocol decided the pair rightly.
        people: the first and second person of each pair, (P,) integers; None where unknown, and
            pairs are resampled then.
        replicates: of the bootstrap.
    """
    ranking = ranking_of(scores, same)
    once = ranking.rates(np.ones((1, len(scores))))
    right_by_rank = right[ranking.order]
    drawn: dict[str, list[np.ndarray]] = {"area": [], "eer": [], "accuracy": []}
    drawn |= {f"{far:g}": [] for far in FALSE_ACCEPTANCE_RATES}
    for weights, times in _weightings(ranking, people, replicates):
        again = ranking.rates(weights)
        found = {"area": again.area(), "eer": again.equal_error_rate()}
        found["accuracy"] = weights @ right_by_rank / weights.sum(axis=1)
        found |= {f"{far:g}": again.tar_at(far) for far in FALSE_ACCEPTANCE_RATES}
        for name, values in found.items():
            drawn[name].append(np.repeat(values, times))
    different = int((~same).sum())
    points = []
    for far in FALSE_ACCEPTANCE_RATES:
        allowed = int(np.floor(far * different + 1e-9))
        if allowed < 1:
            note = f"{different:,} different pairs are too few to measure it"
            points.append(OperatingPoint(far, None, note))
            continue
        tar = _estimate(float(once.tar_at(far)[0]), drawn[f"{far:g}"])
        few = f"rests on {allowed} false acceptance{'s' if allowed > 1 else ''}"
        points.append(OperatingPoint(far, tar, few if allowed < FEW_FALSE_ACCEPTANCES else ""))
    return Characteristic(
        area=_estimate(float(once.area()[0]), drawn["area"]),
        equal_error_rate=_estimate(float(once.equal_error_rate()[0]), drawn["eer"]),
        points=tuple(points),
        accuracy=_estimate(float(right.mean()), drawn["accuracy"]),
        resampled="pairs" if people is None else "people",
    )


def _weightings(
    ranking: Ranking, people: tuple[np.ndarray, np.ndarray] | None, replicates: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(≤ _CHUNK, P) weights at a time, in the ranking's order, and how often each was drawn.

    Those that lack one kind of pair are left out.
    """
    random = np.random.default_rng(0)
    drawn = (
        _weights_by_pairs(ranking, random, replicates)
        if people is None
        else _weights_by_people(ranking, people, random, replicates)
    )
    for weights, times in drawn:
        of_same = weights @ ranking.same
        usable = (of_same > 0) & (weights.sum(axis=1) > of_same)
        if usable.any():
            yield (weights, times) if usable.all() else (weights[usable], times[usable])


def _weights_by_people(
    ranking: Ranking,
    people: tuple[np.ndarray, np.ndarray],
    random: np.random.Generator,
    replicates: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    names, both = np.unique(np.concatenate(people), return_inverse=True)
    first, second = (own[ranking.order] for own in np.split(both, 2))
    different = np.flatnonzero(~ranking.same)
    size = replicates if len(names) <= _FEW_PEOPLE else _CHUNK
    for start in range(0, replicates, size):
        chances = np.full(len(names), 1 / len(names))
        drawn = random.multinomial(len(names), chances, min(size, replicates - start))
        distinct, times = np.unique(drawn, axis=0, return_counts=True)
        for begin in range(0, len(distinct), _CHUNK):
            part = distinct[begin : begin + _CHUNK].astype(np.float64)
            # Row by row in memory, which indexing would not give: half the time.
            weights = part.take(first, axis=1)
            weights[:, different] *= part.take(second[different], axis=1)
            yield weights, times[begin : begin + _CHUNK]


def _weights_by_pairs(
    ranking: Ranking, random: np.random.Generator, replicates: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    # The draws go to the pairs as they were given, same and different ones apart.
    given = np.empty_like(ranking.same)
    given[ranking.order] = ranking.same
    for start in range(0, replicates, _CHUNK):
        size = min(_CHUNK, replicates - start)
        drawn = np.empty((size, len(given)))
        for kind in (given, ~given):
            number = int(kind.sum())
            drawn[:, kind] = random.multinomial(number, np.full(number, 1 / number), size)
        yield drawn.take(ranking.order, axis=1), np.ones(size, dtype=int)


def _estimate(value: float, drawn: list[np.ndarray]) -> Estimate:
    if not drawn:
        return Estimate(value, None, None)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.concatenate(drawn), [tail, 100 - tail])
    return Estimate(value, float(low), float(high))
