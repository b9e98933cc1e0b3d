"""Every claim of speed, as a ratio measured here and now: ``python -m benchmarks.speed``.

Both sides take turns, A B B A, at least five rounds in the loop; a ratio above 1 says that ours is
faster. On the CPU one thread trains, and what counts in the loop is processor time, which other
work on the machine disturbs little. Writes ``reports/published/speed.md``; on two cores it takes
about a quarter of an hour. ``--quick`` tries every part with few steps, and writes a page only
where ``--page`` says.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import grid, loops, many_classes
from marginbench.errors import UserError
from marginbench.training.devices import choose_device, processor_name
from marginbench.training.native_library import compile_layers

PAGE = Path(__file__).parent.parent / "reports" / "published" / "speed.md"
HOW = {
    "The loop": "Processor time on the CPU, wall time on a GPU. The baseline is the loop that a "
    "user would write: torchvision's transforms, a DataLoader, pytorch-metric-learning's loss "
    "where it has one of the same paper, else our head in that loop; the same network and batch.",
    "Many classes": "Wall time of the head's step alone; memory is what the step makes.",
    "The grid": "The first row is the share of the steps in a cell's processor time: what is left "
    "of 1 is data, start, evaluation and files. The second is wall time.",
}


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every part with few steps; no page")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--page", type=Path, help=f"where to write the page; {PAGE.name} if whole")
    given = parser.parse_args()
    try:
        device = choose_device(given.device)
    except UserError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    parts = {"The loop": loops.rows(given.quick, device)}
    parts["Many classes"] = many_classes.rows(given.quick, device)
    seconds: dict[str, float] = {}
    if device.type == "cpu":
        parts["The grid"] = grid.rows(given.quick)
        seconds = grid.seconds(given.quick)
    losses = 3 if given.quick else loops.LOSSES_COMPARED
    text = page(parts, loops.loss_differences(losses), losses, device, seconds)
    print(text)
    target = given.page or (None if given.quick else PAGE)
    if target is not None:
        target.write_text(text)


def page(
    parts: dict[str, list[dict[str, Any]]],
    differences: dict[str, float],
    losses: int,
    device: torch.device,
    seconds: dict[str, float],
) -> str:
    """What was measured, in Markdown.

    Args:
        parts: rows by heading, see :func:`benchmarks.loops.rows`.
        differences: of the losses, by net and head, see :func:`benchmarks.loops.loss_difference`.
        losses: how many of them.
        device: where.
        seconds: of whole commands, see :func:`benchmarks.grid.seconds`.
    """
    _, why = compile_layers()
    lines = [
        "# Speed",
        "",
        "Made by `python -m benchmarks.speed`. A ratio is ours over the baseline's, geometric mean "
        "over rounds of A B B A with its 95 % interval: above 1, ours is faster or smaller.",
        "",
        f"{_machine(device)}; torch {torch.__version__}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}"
        + (f"; layers not fused: {why}" if why and device.type == "cpu" else "")
        + ".",
    ]
    for heading, rows in parts.items():
        lines += [
            "",
            f"## {heading}",
            "",
            HOW[heading],
            "",
            "| what | ours | baseline | ratio |",
            "|:--|--:|--:|--:|",
        ]
        for row in rows:
            unit = row["unit"]
            lines.append(
                f"| {row['what']} | {row['ours']:,.4g} {unit} | {row['baseline']:,.4g} {unit} "
                f"| {row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}] |"
            )
    if seconds:
        lines += ["", "Seconds of wall time, with whatever else the machine did:", ""]
        lines += [f"- {what}: {value:.1f}" for what, value in seconds.items()]
    lines += [
        "",
        "## The same numbers",
        "",
        f"The largest relative difference between the first {losses} losses of fused and of plain "
        "layers, float32, learning rate 1e-5:",
        "",
        *(f"- {what}: {value:.1e}" for what, value in differences.items()),
    ]
    return "\n".join(lines) + "\n"


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"One {torch.cuda.get_device_name(device)}"
    name = f"{processor_name()} ({torch.backends.cpu.get_cpu_capability()})"
    return f"{os.cpu_count()} cores of {name}, one thread where nothing else is said"


if __name__ == "__main__":
    main()
