"""``torchrun -m marginbench run``: every cell by two processes, one after the other."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marginbench.command_line import main
from tests.command_line.conftest import hear_ctrl_c
from tests.conftest import BARS_SOURCE, TINY_SUITE
from tests.dispatch.slurm.slurm_cluster import wait_until
from tests.training.rank_processes import on_ranks, torchrun_environment

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
DEADLINE = 900

HELD_HEAD = """
import time
from pathlib import Path

from marginbench.heads import register_head
from marginbench.losses.softmax import Softmax


@register_head("held")
class Held(Softmax):
    def loss(self, features, labels):
        # The run folder's history is written when training begins; the loss is tried before.
        while Path("hold").exists() and any(Path("runs").glob("*/*/history.jsonl")):
            time.sleep(0.01)
        return super().loss(features, labels)
"""


def run_on_rank(ranks, address, folder, arguments):
    """The command in a process as torchrun starts it; its exit status and what it printed."""
    os.environ |= torchrun_environment(ranks, address)
    os.chdir(folder)
    printed = Path(f"rank{ranks.rank}.txt")
    with printed.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        main(["run", *map(str, arguments), "--device", "cpu"], prog_name="marginbench")
    except SystemExit as ended:
        sys.stdout.flush()
        return ended.code or 0, printed.read_text()


def run(folder, *arguments):
    """The command by two processes; rank 0's exit status and output. Rank 1 prints nothing."""
    (status, output), (other_status, other_output) = on_ranks(run_on_rank, folder, arguments)
    assert (other_status, other_output) == (0, "")
    return status, output


def results(folder):
    return {
        path.parent.name: json.loads(path.read_text())
        for path in folder.glob("runs/*/*/result.json")
    }


@pytest.fixture
def suite(tmp_path):
    file = tmp_path / "tiny_suite.py"
    file.write_text(TINY_SUITE.replace("ITERATIONS", "12"))
    return file


def test_all_cells_are_trained_by_both_and_told_once(suite, tmp_path):
    status, output = run(tmp_path, suite)
    assert status == 0, output
    found = results(tmp_path)
    assert len(found) == 4
    assert {result["device"] for result in found.values()} == {"2 × cpu"}
    assert "each by 2 processes" in output
    for name in found:
        assert output.count(f"done {name}") == 1
    assert output.count("report: ") == 1
    assert "training from iteration" not in output

    status, output = run(tmp_path, suite, "--no-report")
    assert status == 0, output
    assert f"{len(found)} finished, 0 to run" in output


def test_a_cell_that_is_refused_does_not_keep_the_others_from_being_trained(suite, tmp_path):
    text = suite.read_text()
    assert "batch_size=32" in text
    odd = text.replace("batch_size=32", "batch_size=31").replace('"tiny"', '"odd"')
    (tmp_path / "odd_suite.py").write_text(odd)
    status, output = run(tmp_path, "odd_suite.py", "--no-report")
    assert status != 0
    folders = list((tmp_path / "runs" / "odd").glob("*/failure.json"))
    assert len(folders) > 1
    for file in folders:
        assert "batch_size = 31 is not allowed with 2 processes" in file.read_text()
    assert "batch_size = 31" in output


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path):
    file = tmp_path / "held_suite.py"
    text = TINY_SUITE.replace("ITERATIONS", "12").replace('"tiny"', '"held"')
    text = text.replace('"softmax"', '"held"').replace('"digits"', '"bars"')
    file.write_text(HELD_HEAD + BARS_SOURCE + text)
    hold = tmp_path / "hold"
    hold.touch()
    arguments = [file.name, "--only", "held", "--seeds", "1", "--no-report"]
    process = subprocess.Popen(
        [*TORCHRUN, "-m", "marginbench", "run", *arguments, "--device", "cpu"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    try:
        started = "runs/held/*/history.jsonl"
        wait_until(lambda: any(tmp_path.glob(started)), "the training to begin", DEADLINE)
        os.killpg(process.pid, signal.SIGINT)
        hold.unlink()
        output, _ = process.communicate(timeout=DEADLINE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    (folder,) = tmp_path.glob("runs/held/*-*")
    assert (folder / "checkpoint.pt").exists(), output
    assert not (folder / "result.json").exists()
    status, output = run(tmp_path, *arguments)
    assert status == 0, output
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["trained_from"] > 0
