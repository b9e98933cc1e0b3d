"""Our training step beside the loop that a user would write, for every head."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.interleaved import Ratio, compare, processor_time
from benchmarks.plain_loop import LOSSES, Net, PlainLoop
from marginbench import Optimiser, Schedule, component
from marginbench.data import ImageData, data_source
from marginbench.experiments.cells import Cell, make_cell
from marginbench.experiments.resolution import resolve_cell
from marginbench.heads import head_names
from marginbench.runs.environment import LIMIT_VARIABLE
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from marginbench.training.step import TrainingStep
from marginbench.training.step_graph import WARM_UP_STEPS

SMALL_NETS = (
    Net("mnist", 0.125, (1, 28, 28), 64, False),
    Net("cifar10", 0.1875, (3, 32, 32), 32, True),
)
PAPER_NETS = (
    Net("mnist", 1.0, (1, 28, 28), 256, False),
    Net("cifar10", 1.0, (3, 32, 32), 256, True),
    Net("cifar100", 1.0, (3, 32, 32), 256, True),
)
IMAGES, CLASSES = 4_096, 10
LOSSES_COMPARED = 50


@data_source("benchmark-images")
def benchmark_images(*, channels: int, size: int) -> ImageData:
    """Random images: what they show costs nothing."""
    images, labels = images_of((channels, size, size))
    return ImageData(
        images, labels, images[:CLASSES], labels[:CLASSES], tuple(map(str, range(CLASSES)))
    )


def images_of(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """(N, C, H, W), uint8, and their labels (N,), every class equally often."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, *shape), dtype=torch.uint8, generator=random)
    return images, torch.arange(IMAGES) % CLASSES


def rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """The comparisons, one a net and head, and streamed beside resident images.

    Args:
        quick: few steps and rounds.
        device: the CPU, with one thread and processor time, or CUDA, with wall time.
    """
    on_gpu = device.type == "cuda"
    heads = head_names()
    rounds, repeats = (2, 1) if quick else (5, 300 if on_gpu else 8)
    found = []
    for net in PAPER_NETS if on_gpu else SMALL_NETS:
        workers = _best_workers(net, device)
        for head in heads:
            ours = step_of(net, head, device)
            baseline = PlainLoop(net, head, *images_of(net.shape), device, workers)
            ratio = _measured(ours, baseline, rounds, repeats, device)
            loss = "pytorch-metric-learning" if head in LOSSES else "the same head"
            what = f"{net.name} net, width {net.width:g}, batch {net.batch}: {head} ({loss})"
            found.append(_row(what, ratio, net.batch))
    net = (PAPER_NETS if on_gpu else SMALL_NETS)[1]
    resident, streamed = (step_of(net, "softmax", device, limit) for limit in (None, 0))
    ratio = _measured(streamed, resident, rounds, repeats, device)
    found.append(_row(f"{net.name} net, softmax: streamed beside resident", ratio, net.batch))
    return found


def loss_differences(count: int) -> dict[str, float]:
    """By net and head: every head on the smaller net, the paper's own kinds on the other.

    Args:
        count: losses of each.
    """
    small, other = SMALL_NETS
    pairs = [(small, head) for head in head_names()]
    pairs += [(other, head) for head in ("softmax", "l-softmax", "arcface")]
    return {f"{net.name} net, {head}": loss_difference(net, head, count) for net, head in pairs}


def loss_difference(net: Net, head: str, count: int = LOSSES_COMPARED) -> float:
    """The largest relative difference of the first losses, fused beside plain, in float32.

    At a low learning rate, at which rounding is not amplified from step to step.
    """
    curves = []
    for execution in ("fused", "eager"):
        step = step_of(net, head, torch.device("cpu"), execution=execution, rate=1e-5)
        losses = []
        for _ in range(count):
            step.progress.loss_sum.zero_()
            step()
            losses.append(float(step.progress.loss_sum))
        curves.append(torch.tensor(losses))
    return float(((curves[0] - curves[1]).abs() / curves[1].abs().clamp(min=1e-3)).max())


def step_of(
    net: Net,
    head: str,
    device: torch.device,
    limit: int | None = None,
    *,
    execution: str = "fused",
    rate: float = 1e-3,
) -> TrainingStep:
    """Our step for a net and head; ``limit`` bytes of images may lie on the device."""
    cell: Cell = make_cell(
        data=component("benchmark-images", channels=net.shape[0], size=net.shape[1]),
        backbone=component(net.name, width=net.width),
        head=component(head),
        optimiser=Optimiser(learning_rate=rate),
        schedule=Schedule(
            iterations=20_000,
            batch_size=net.batch,
            evaluations=1,
            augmentation="crop-flip" if net.crop_flip else "none",
        ),
        precision="bf16" if device.type == "cuda" else "float32",
        execution=execution,
    )
    with patch.dict("os.environ", {} if limit is None else {LIMIT_VARIABLE: str(limit)}):
        experiment = build_experiment(resolve_cell(cell), device)
    experiment.training_mode()
    return TrainingStep(
        experiment, Progress(0, loss_sum=torch.zeros((), dtype=torch.float64).to(device))
    )


def _measured(ours: Any, baseline: Any, rounds: int, repeats: int, device: torch.device) -> Ratio:
    if device.type != "cuda":
        return compare(ours, baseline, rounds=rounds, repeats=repeats, clock=processor_time)

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    # Until the step is captured: before any thread of the baseline's loader lives.
    for _ in range(WARM_UP_STEPS + 9):
        ours()
    assert not isinstance(ours, TrainingStep) or (ours.graph and ours.graph.is_captured)
    for _ in range(20):
        baseline()
    return compare(ours, baseline, rounds=rounds, repeats=repeats, clock=waited)


def _best_workers(net: Net, device: torch.device) -> int:
    """Of the DataLoader. One core has none to spare for another process."""
    if device.type != "cuda":
        return 0
    images = images_of(net.shape)
    seconds = {}
    for workers in (2, 4, 8, 12):
        loop = PlainLoop(net, "softmax", *images, device, workers)
        for _ in range(20):
            loop()
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        for _ in range(60):
            loop()
        torch.cuda.synchronize(device)
        seconds[workers] = time.perf_counter() - started
    return min(seconds, key=lambda workers: seconds[workers])


def _row(what: str, ratio: Ratio, batch: int) -> dict[str, Any]:
    print(f"{what}: {ratio.ratio:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]", flush=True)
    return {
        "what": what,
        "ours": batch / ratio.ours,
        "baseline": batch / ratio.baseline,
        "unit": "images/s",
        "ratio": ratio.ratio,
        "low": ratio.low,
        "high": ratio.high,
    }
