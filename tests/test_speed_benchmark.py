"""The benchmark of speed: its baselines are losses, and its page says what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.interleaved import processor_time
from benchmarks.plain_loop import LOSSES
from benchmarks.speed import page
from marginbench.heads import build_head, head_names


@pytest.mark.parametrize("name", LOSSES)
def test_a_baseline_is_a_loss_with_a_gradient(name):
    torch.manual_seed(0)
    loss = LOSSES[name](5, 4)
    features = torch.randn(10, 4, requires_grad=True)
    loss(features, torch.arange(10) % 5).backward()
    assert features.grad.abs().sum() > 0


def test_every_head_is_one_that_the_loop_can_build():
    assert LOSSES.keys() <= set(head_names())
    for name in head_names():
        assert build_head(name, 4, 10) is not None


def test_the_page_has_a_row_a_comparison():
    row = {"what": "a step", "ours": 12.5, "baseline": 25.0, "unit": "ms"}
    row |= {"ratio": 2.0, "low": 1.9, "high": 2.1}
    text = page({"The loop": [row]}, {"a net": 1e-7}, 50, torch.device("cpu"), {"a command": 7.25})
    assert "| a step | 12.5 ms | 25 ms | 2.00 [1.90, 2.10] |" in text
    assert "- a command: 7.2" in text
    assert "first 50 losses" in text
    assert "- a net: 1.0e-07" in text


def test_the_steps_are_a_part_of_a_cell_of_the_quickstart():
    """In a process of its own: what it does is a worker's, signals and all."""
    code = "import json; from benchmarks.cell_cost import rows; print(json.dumps(rows(quick=True)))"
    folder = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout.splitlines()[-1])
    assert 0 < row["baseline"] < row["ours"]
    assert 0 < row["ratio"] < 1


def test_the_clock_sees_less_than_a_step():
    seen = {processor_time() for _ in range(10_000)}
    # Ticks of 10 ms would show a few of them.
    assert len(seen) > 100
