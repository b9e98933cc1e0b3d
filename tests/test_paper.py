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
from marginbench.runs.cell_status import State
from marginbench.runs.suite_runs import open_suite
from tests.conftest import TINY_SUITE


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
    wanted = [*wanted, Stage(suite, 2)]
    (page,) = write_pages(wanted, runs, FULL, tmp_path / "pages")
    text = page.read_text()
    assert "1 of 1 cell done, seed 0" in text
    assert f"marginbench run {suite} --seeds 1 --only softmax" in text


def test_what_runs_when_the_time_is_over_goes_on_from_its_checkpoint(tmp_path):
    # Long enough to be under way when it is stopped.
    suite = tmp_path / "long_suite.py"
    suite.write_text(TINY_SUITE.replace("ITERATIONS", "1_000_000").replace('"tiny"', '"long"'))
    runs = tmp_path / "runs"
    stage = Stage(str(suite), 1, "softmax")
    (cell,) = open_suite(str(suite), runs, seeds=1, only=["softmax"]).runs
    seconds = 15.0
    while not (cell.path / "checkpoint.pt").exists():
        # On a busy machine the first seconds may not be enough to begin.
        assert run_stages([stage], runs, FULL, time.monotonic() + seconds) == ([], [])
        seconds *= 2
    assert write_pages([stage], runs, FULL, tmp_path / "pages") == []
    assert cell.status().state is State.STOPPED


def test_after_the_deadline_nothing_begins(capfd):
    assert run_module(["marginbench", "--help"], time.monotonic() - 1) is None
    assert capfd.readouterr().out == ""


def test_without_a_gpu_the_full_size_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "--size small tries it" in capsys.readouterr().err


def test_a_sigterm_is_passed_on_and_waited_for(tmp_path):
    """The child says that it heard it, after the parent would long have been gone."""
    (tmp_path / "child.py").write_text(
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(0.5)\n"
        "    print('heard', flush=True)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "parent.py").write_text(
        "from benchmarks.commands import run_module\n"
        "try: run_module(['child'])\n"
        "except KeyboardInterrupt: print('ended', flush=True)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    with subprocess.Popen(
        [sys.executable, "parent.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        lines = iter(process.stdout.readline, "")
        assert next(lines) == "+ child\n"
        assert next(lines) == "ready\n"
        process.terminate()
        assert list(lines) == ["heard\n", "ended\n"]
        assert process.wait() == 0
