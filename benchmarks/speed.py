"""Every claim of speed, as a ratio measured here and now: ``python -m benchmarks.speed``.

Both sides take turns, A B B A, at least five rounds; a ratio above 1 says that ours is faster. On
the CPU one thread trains, and what counts is processor time, which other work on the machine
disturbs little. Writes ``reports/published/speed.md``; ``--quick`` is a short try, and writes none.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import cell_cost, loops
from marginbench.training.native_library import compile_layers

PAGE = Path(__file__).parent.parent / "reports" / "published" / "speed.md"


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few heads and rounds; no page")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write the page")
    given = parser.parse_args()
    name = given.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    torch.set_num_threads(1)
    parts = {"The loop": loops.rows(given.quick, device)}
    if device.type == "cpu":
        parts["The grid"] = cell_cost.rows(given.quick)
    differences = {
        f"{net.name} net, {head}": loops.loss_difference(net, head)
        for net in loops.SMALL_NETS
        for head in ("softmax", "l-softmax", "arcface")
    }
    try:
        many_classes = importlib.import_module("benchmarks.many_classes")
    except ModuleNotFoundError:
        pass
    else:
        parts["Many classes"] = many_classes.rows(given.quick)
    text = page(parts, differences, device)
    print(text)
    if not given.quick:
        given.page.write_text(text)


def page(
    parts: dict[str, list[dict[str, Any]]], differences: dict[str, float], device: torch.device
) -> str:
    """What was measured, in Markdown.

    Args:
        parts: rows by heading, see :func:`benchmarks.loops.rows`.
        differences: of the losses, by net and head, see :func:`benchmarks.loops.loss_difference`.
        device: where.
    """
    _, why = compile_layers()
    lines = [
        "# Speed",
        "",
        "Made by `python -m benchmarks.speed`. A ratio is ours over the baseline's, geometric mean "
        "over rounds of A B B A with its 95 % interval: above 1, ours is faster. The baseline is "
        "the loop that a user would write: torchvision's transforms, a DataLoader, "
        "pytorch-metric-learning's loss where it has one of the same paper, else our head in "
        "that loop; the same network and batch.",
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
            "| what | ours | baseline | ratio |",
            "|:--|--:|--:|--:|",
        ]
        for row in rows:
            unit = row["unit"]
            lines.append(
                f"| {row['what']} | {row['ours']:,.4g} {unit} | {row['baseline']:,.4g} {unit} "
                f"| {row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}] |"
            )
    lines += [
        "",
        "## The same numbers",
        "",
        "The largest relative difference between the first 50 losses of fused and of plain layers, "
        "float32, learning rate 1e-5:",
        "",
        *(f"- {what}: {value:.1e}" for what, value in differences.items()),
    ]
    return "\n".join(lines) + "\n"


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"One {torch.cuda.get_device_name(device)}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    widest = torch.backends.cpu.get_cpu_capability()
    return f"One core of {name} ({widest}), processor time, one thread"


if __name__ == "__main__":
    main()
