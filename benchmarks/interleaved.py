"""Two sides measured in turns, A B B A, so that whatever else the machine does meets both."""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from scipy.stats import t as student

Clock = Callable[[], float]


@dataclass(frozen=True)
class Ratio:
    """What rounds of A B B A come to.

    Attributes:
        ours, baseline: the median over the rounds of what one repetition takes, in seconds.
        ratio: the geometric mean over the rounds of baseline / ours: above 1, ours is faster.
        low, high: its 95 % interval.
    """

    ours: float
    baseline: float
    ratio: float
    low: float
    high: float


def processor_time() -> float:
    """Seconds that this process and its ended children were computing: idle waits count nothing.

    In microseconds; the clock of ``os.times`` has ticks of 10 ms, half a step of a small net.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def compare(
    ours: Callable[[], object],
    baseline: Callable[[], object],
    *,
    rounds: int,
    repeats: int,
    clock: Clock = time.perf_counter,
) -> Ratio:
    """Measure both, after one repetition of each that is not counted.

    Args:
        ours, baseline: a repetition each.
        rounds: ≥ 2; each takes ours, the baseline twice, and ours.
        repeats: repetitions in each of a round's four parts.
        clock: in seconds.
    """
    ours(), baseline()

    def seconds(side: Callable[[], object]) -> float:
        started = clock()
        for _ in range(repeats):
            side()
        return (clock() - started) / repeats

    of_ours, of_baseline = [], []
    for _ in range(rounds):
        first, second, third, fourth = (seconds(s) for s in (ours, baseline, baseline, ours))
        of_ours.append((first + fourth) / 2)
        of_baseline.append((second + third) / 2)
    logs = [math.log(b / a) for a, b in zip(of_ours, of_baseline, strict=True)]
    mean = statistics.fmean(logs)
    half = student.ppf(0.975, rounds - 1) * statistics.stdev(logs) / math.sqrt(rounds)
    return Ratio(
        statistics.median(of_ours),
        statistics.median(of_baseline),
        math.exp(mean),
        math.exp(mean - half),
        math.exp(mean + half),
    )
