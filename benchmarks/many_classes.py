"""A step of a head over many classes, beside pytorch-metric-learning's: time and memory.

``python -m benchmarks.many_classes`` prints the rows; ``--quick`` takes fewer classes and rounds.
``benchmarks.speed`` calls :func:`rows`. A step is loss and gradient of ArcFace alone, for 256
features of 512 numbers; the sides take turns, A B B A, and each has its own weights. What counts is
wall time, since several threads share the work.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.allocations import Allocations
from benchmarks.interleaved import compare
from marginbench.heads import build_head

SAMPLES, FEATURES = 256, 512
THREADS = (1, 2)
MARGIN, SCALE = 0.5, 64.0
CPU = torch.device("cpu")
Step = Callable[[], Tensor]


def rows(quick: bool = False, device: torch.device = CPU) -> list[dict[str, Any]]:
    """The comparisons, measured here and now.

    Args:
        quick: fewer classes and rounds.
        device: on the CPU with one thread and with two, as far as there are cores.

    Returns:
        For each: "what"; "ours" and "baseline" in the row's "unit", the median of the rounds;
        "ratio" baseline / ours, so that above 1 ours is faster or smaller, and "low" and "high",
        the 95 % interval of its geometric mean over the rounds. Memory does not vary.
    """
    many = 20_000 if quick else 100_000
    kept, found = torch.get_num_threads(), []
    try:
        for threads in [n for n in THREADS if n <= (os.cpu_count() or 1)]:
            torch.set_num_threads(threads)
            if device.type == "cpu":
                where = f"{threads} thread{'s' if threads > 1 else ''}"
            else:
                where = device.type
            found += _times(many, where, quick, device)
            if device.type != "cpu":
                break
        for classes in (many, 1_000):
            what = f"ArcFace, K={classes:,}, beside pytorch-metric-learning: peak of a step"
            ours, baseline = _arcface(classes, device), _metric_learning(classes, device)
            found.append(_memory(what, *(_peak_of(_step(x, classes)) for x in (ours, baseline))))
        found.append(_beyond(100_000 if quick else 1_000_000, device))
    finally:
        torch.set_num_threads(kept)
    return found


def _times(many: int, where: str, quick: bool, device: torch.device) -> list[dict[str, Any]]:
    rounds = 2 if quick else 6
    found = []
    for classes, repeats in ((many, 1), (1_000, 20)):
        ours, baseline = _arcface(classes, device), _metric_learning(classes, device)
        what = f"ArcFace, K={classes:,}, {where}, beside pytorch-metric-learning: time of a step"
        found.append(_beside(what, _step(ours, classes), _step(baseline, classes), rounds, repeats))
    sides = (_step(_arcface(1_000, device, **p), 1_000) for p in ({}, {"chunk": 0}))
    what = f"ArcFace, K=1,000, {where}, beside the same with all logits at once: time of a step"
    return [*found, _beside(what, *sides, rounds, 20)]


def _arcface(classes: int, device: torch.device, **parameters: Any) -> nn.Module:
    return build_head("arcface", FEATURES, classes, m=MARGIN, s=SCALE, **parameters).to(device)


def _metric_learning(classes: int, device: torch.device) -> nn.Module:
    from pytorch_metric_learning.losses import ArcFaceLoss

    loss = ArcFaceLoss(classes, FEATURES, margin=math.degrees(MARGIN), scale=SCALE)
    return loss.to(device)


def _step(loss: nn.Module, classes: int, features: int = FEATURES) -> Step:
    device = next(loss.parameters()).device
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(SAMPLES, features, generator=generator).to(device)
    labels = torch.randint(classes, (SAMPLES,), generator=generator).to(device)

    def step() -> Tensor:
        loss.zero_grad(set_to_none=True)
        value = loss(batch.clone().requires_grad_(), labels)
        value.backward()
        return value.detach()

    return step


def _beside(what: str, ours: Step, baseline: Step, rounds: int, repeats: int) -> dict[str, Any]:
    found = compare(ours, baseline, rounds=rounds, repeats=repeats, clock=_waited)
    print(f"{what}: {found.ratio:.2f} [{found.low:.2f}, {found.high:.2f}]", flush=True)
    return {
        "what": what,
        "ours": 1e3 * found.ours,
        "baseline": 1e3 * found.baseline,
        "unit": "ms",
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
    }


def _waited() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_of(step: Step) -> float:
    """MiB at once, of all that a step makes."""
    with Allocations() as made:
        step()
    return made.peak / 2**20


def _beyond(classes: int, device: torch.device) -> dict[str, Any]:
    """What a step holds beyond the weights and their gradient, beside all its logits."""
    features = 64  # as little as the logits need: it is not the classifier that is measured
    head = build_head("arcface", features, classes).to(device)
    beyond = _peak_of(_step(head, classes, features))
    beyond -= sum(p.nbytes for p in head.parameters()) / 2**20
    what = f"ArcFace, K={classes:,}: beyond weights and gradient, beside N·K·4 bytes"
    return _memory(what, beyond, SAMPLES * classes * 4 / 2**20)


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
