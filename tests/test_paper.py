"""The commands of ``make paper``: stages in order, a budget that ends, runs that go on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.commands import run_module
from benchmarks.paper import PAPER_HEADS, Stage, main, run_stages, stages, write_pages
from marginbench.experiments.suites import FULL, find_suite
from marginbench.runs.suite_runs import open_suite
from tests.conftest import train_cell


@pytest.mark.parametrize("suite", PAPER_HEADS)
def test_the_heads_are_those_of_the_suite(suite):
    heads = {cell.head.name for cell in find_suite(suite).cells(1)}
    assert set(PAPER_HEADS[suite].split(",")) <= heads


def test_all_tables_come_with_one_seed_before_any_has_three():
    order = stages()
    assert [stage.seeds for stage in order[: len(PAPER_HEADS)]] == [1] * len(PAPER_HEADS)
    own = [stage for stage in order if stage.only]
    assert order[: len(own)] == own
    assert [stage.seeds for stage in own] == sorted(stage.seeds for stage in own)


def test_stages_are_run_published_and_a_suite_without_data_is_left_out(tiny_suite, tmp_path, capfd):
    suite = str(tiny_suite)
    wanted = [Stage(suite, 1, "softmax"), Stage("no-such-suite", 1), Stage("no-such-suite", 2)]
    runs = tmp_path / "runs"
    done, failed = run_stages(wanted, runs, FULL, time.monotonic() + 600)
    assert done == wanted[:1]
    assert failed == ["no-such-suite"]
    assert capfd.readouterr().err.count("no-such-suite") == 1
    # As many seeds and more heads would be better, fewer seeds would not; the former is not whole.
    wanted = [Stage(suite, 1), *wanted, Stage(suite, 2)]
    (page,) = write_pages(wanted, runs, FULL, tmp_path / "pages")
    text = page.read_text()
    assert "1 of 1 cell done, seed 0" in text
    assert f"marginbench run {suite} --seeds 1 --only softmax" in text


def test_after_the_deadline_nothing_begins(capfd):
    assert run_module(["marginbench", "--help"], time.monotonic() - 1) is None
    assert capfd.readouterr().out == ""


def test_without_a_gpu_the_full_size_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "--size small tries it" in capsys.readouterr().err


def test_the_tables_come_first_and_a_failed_check_ends_nothing(monkeypatch, tmp_path, capsys):
    called = []

    def run(command, deadline=None):
        called.append((command[0], deadline))
        return int(command[0] == "pytest")

    monkeypatch.setattr("benchmarks.paper.run_module", run)
    monkeypatch.setattr(
        "benchmarks.paper.write_pages", lambda *_: called.append(("pages", 0)) or []
    )
    folders = ["--runs", str(tmp_path / "runs"), "--target", str(tmp_path / "pages")]
    assert main(["--size", "small", "--minutes", "100", *folders]) == 1
    names = [name for name, _ in called]
    assert names == ["marginbench"] * len(stages()) + ["pages", "pytest", "benchmarks.speed"]
    assert called[-1][1] - called[0][1] == pytest.approx(60 * 25)
    assert "do not rely on these runs" in capsys.readouterr().out


def test_a_page_has_the_most_seeds_and_then_the_most_heads(tiny_suite, tmp_path):
    suite, runs = str(tiny_suite), tmp_path / "runs"
    run = open_suite(suite, runs)
    run.folder.mkdir(parents=True)
    for one in run.runs:
        train_cell(one.cell, run.folder)
    wanted = [Stage(suite, 2, "softmax"), Stage(suite, 1), Stage(suite, 2)]
    for number, words in ((2, "2 of 2 cells done, seeds 0, 1"), (3, "4 of 4 cells done")):
        (page,) = write_pages(wanted[:number], runs, FULL, tmp_path / "pages")
        assert words in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--minutes", "0"], "invalid minutes value: '0'"),
        (["--minutes", "nan"], "invalid minutes value: 'nan'"),
        (["--size", "tiny"], "invalid choice: 'tiny'"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


CHILD = """
import signal, sys, time

def end(*_):
    time.sleep(0.5)
    print("heard", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""

PARENT = """
import sys, time
from benchmarks.commands import run_module

seconds = float(sys.argv[1])
try:
    print(run_module(["child"], time.monotonic() + seconds), flush=True)
except KeyboardInterrupt:
    print("ended", flush=True)
"""


@pytest.fixture
def parent(tmp_path):
    """Starts PARENT, which runs CHILD for so many seconds."""
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "parent.py").write_text(PARENT)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])

    def start(seconds):
        return subprocess.Popen(
            [sys.executable, "parent.py", str(seconds)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def test_a_sigterm_is_passed_on_and_waited_for(parent):
    with parent(600) as process:
        lines = iter(process.stdout.readline, "")
        assert [next(lines), next(lines)] == ["+ child\n", "ready\n"]
        process.terminate()
        assert list(lines) == ["heard\n", "ended\n"]


def test_what_runs_when_the_time_is_over_is_stopped_and_waited_for(parent):
    seconds = 5
    while True:
        with parent(seconds) as process:
            lines = process.stdout.readlines()
        # On a busy machine it may not have begun by then.
        if "ready\n" in lines:
            break
        seconds *= 2
    assert lines == ["+ child\n", "ready\n", "heard\n", "None\n"]
