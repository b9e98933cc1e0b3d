"""``torchrun -m marginbench run``: every cell by two processes, one after the other."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.command_line.conftest import hear_ctrl_c
from tests.conftest import TINY_SUITE

COMMAND = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    *("-m", "marginbench", "run"),
]


def start(suite, folder, *arguments):
    return subprocess.Popen(
        [*COMMAND, str(suite), "--device", "cpu", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )


def finish(process):
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


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
    status, output = finish(start(suite, tmp_path))
    assert status == 0, output
    found = results(tmp_path)
    assert {result["device"] for result in found.values()} == {"2 × cpu"}
    assert "each by 2 processes" in output
    for name in found:
        assert output.count(f"done {name}") == 1
    assert output.count("report: ") == 1
    assert "training from iteration" not in output

    status, output = finish(start(suite, tmp_path))
    assert status == 0, output
    assert f"{len(found)} finished, 0 to run" in output


def test_a_cell_that_is_refused_does_not_keep_the_others_from_being_trained(suite, tmp_path):
    text = suite.read_text()
    assert "batch_size=32" in text
    odd = text.replace("batch_size=32", "batch_size=31").replace('"tiny"', '"odd"')
    (tmp_path / "odd_suite.py").write_text(odd)
    status, output = finish(start(tmp_path / "odd_suite.py", tmp_path, "--no-report"))
    assert status != 0
    folders = list((tmp_path / "runs" / "odd").glob("*/failure.json"))
    assert len(folders) > 1
    for file in folders:
        assert "batch_size = 31 is not allowed with 2 processes" in file.read_text()
    assert "batch_size = 31" in output


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path):
    file = tmp_path / "long_suite.py"
    file.write_text(TINY_SUITE.replace("ITERATIONS", "400").replace('"tiny"', '"long"'))
    process = start(file, tmp_path, "--only", "softmax", "--seeds", "1", "--no-report")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(tmp_path.glob("runs/long/*/history.jsonl")):
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    status, output = finish(process)
    assert status != 0
    (folder,) = tmp_path.glob("runs/long/*-*")
    assert (folder / "checkpoint.pt").exists(), output
    assert not (folder / "result.json").exists()
    status, output = finish(
        start(file, tmp_path, "--only", "softmax", "--seeds", "1", "--no-report")
    )
    assert status == 0, output
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["trained_from"] > 0
