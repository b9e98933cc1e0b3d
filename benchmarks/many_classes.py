"""A step of a head over many classes, beside pytorch-metric-learning's: time and memory.

``python -m benchmarks.many_classes`` prints the rows; ``--quick`` takes fewer classes and rounds.
``benchmarks.speed`` calls :func:`rows`. A step is loss and gradient of ArcFace alone, for 256
features of 512 numbers; the sides take turns, A B B A, and each has its own weights.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from scipy.stats import t as student
from torch import Tensor, nn

from benchmarks.allocations import Allocations
from marginbench.heads import build_head

SAMPLES, FEATURES = 256, 512
THREADS = 2
MARGIN, SCALE = 0.5, 64.0
Step = Callable[[], Tensor]


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The comparisons, measured here and now.

    Args:
        quick: fewer classes and rounds.

    Returns:
        For each: "what"; "ours" and "baseline" in the row's "unit", the median of the rounds;
        "ratio" baseline / ours, so that above 1 ours is faster or smaller, and "low" and "high",
        the 95 % interval of its geometric mean over the rounds. Memory does not vary.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        many, rounds = (20_000, 3) if quick else (100_000, 6)
        found = []
        for classes, repeats in ((many, 1), (1_000, 20)):
            found += _beside(
                f"ArcFace, K={classes:,}, beside pytorch-metric-learning",
                _step(build_head("arcface", FEATURES, classes, m=MARGIN, s=SCALE), classes),
                _step(_metric_learning(classes), classes),
                rounds,
                repeats,
            )
        found += _beside(
            "ArcFace, K=1,000, beside the same with all logits at once",
            _step(build_head("arcface", FEATURES, 1_000), 1_000),
            _step(build_head("arcface", FEATURES, 1_000, chunk=0), 1_000),
            rounds,
            20,
        )
        found.append(_peak(100_000 if quick else 1_000_000))
    finally:
        torch.set_num_threads(threads)
    return found


def _metric_learning(classes: int) -> nn.Module:
    from pytorch_metric_learning.losses import ArcFaceLoss

    return ArcFaceLoss(classes, FEATURES, margin=math.degrees(MARGIN), scale=SCALE)


def _step(loss: nn.Module, classes: int, features: int = FEATURES) -> Step:
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(SAMPLES, features, generator=generator)
    labels = torch.randint(classes, (SAMPLES,), generator=generator)

    def step() -> Tensor:
        loss.zero_grad(set_to_none=True)
        value = loss(batch.clone().requires_grad_(), labels)
        value.backward()
        return value.detach()

    return step


def _beside(what: str, ours: Step, baseline: Step, rounds: int, repeats: int) -> list[dict]:
    seconds: dict[Step, list[float]] = {ours: [], baseline: []}
    peaks = {}
    for side in seconds:
        with Allocations() as made:
            side()
        peaks[side] = made.peak / 2**20
    for _ in range(rounds):
        for side in (ours, baseline, baseline, ours):
            start = time.perf_counter()
            for _ in range(repeats):
                side()
            seconds[side].append((time.perf_counter() - start) / repeats)
    logs = [
        math.log(sum(seconds[baseline][i : i + 2]) / sum(seconds[ours][i : i + 2]))
        for i in range(0, 2 * rounds, 2)
    ]
    middle, error = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(rounds)
    width = error * float(student.ppf(0.975, rounds - 1))
    speed = {
        "what": f"{what}: time of a step",
        "ours": 1e3 * statistics.median(seconds[ours]),
        "baseline": 1e3 * statistics.median(seconds[baseline]),
        "unit": "ms",
        "ratio": math.exp(middle),
        "low": math.exp(middle - width),
        "high": math.exp(middle + width),
    }
    return [speed, _memory(f"{what}: peak of a step", peaks[ours], peaks[baseline])]


def _peak(classes: int) -> dict[str, Any]:
    """What a step holds beyond the weights and their gradient, beside all its logits."""
    features = 64  # as little as the logits need: it is not the classifier that is measured
    head = build_head("arcface", features, classes)
    step = _step(head, classes, features)
    with Allocations() as made:
        step()
    beyond = made.peak - sum(p.nbytes for p in head.parameters())
    what = f"ArcFace, K={classes:,}: beyond weights and gradient, beside N·K·4 bytes"
    return _memory(what, beyond / 2**20, SAMPLES * classes * 4 / 2**20)


def _memory(what: str, ours: float, baseline: float) -> dict[str, Any]:
    ratio = baseline / ours
    return {
        "what": what,
        "ours": ours,
        "baseline": baseline,
        "unit": "MiB",
        "ratio": ratio,
        "low": ratio,
        "high": ratio,
    }


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer classes and rounds")
    for row in rows(parser.parse_args().quick):
        print(
            f"{row['what']}: {row['ours']:.1f} against {row['baseline']:.1f} {row['unit']}, "
            f"ratio {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
