"""Killing, stopping, and running the same suite twice at once: nothing is lost or done twice."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.command_line.conftest import COMMAND, hear_ctrl_c
from tests.conftest import BARS_SOURCE, TINY_SUITE

ITERATIONS = 1000


@pytest.fixture(scope="session")
def long_suite(tmp_path_factory):
    """Like the tiny suite, but long enough to be killed in the middle."""
    file = tmp_path_factory.mktemp("suite") / "long_suite.py"
    text = TINY_SUITE.replace("ITERATIONS", str(ITERATIONS)).replace('"tiny"', '"long"')
    text = text.replace("evaluations=4", "evaluations=20").replace('"digits"', '"bars"')
    file.write_text(BARS_SOURCE + text)
    return file


def start(suite, folder, *arguments):
    """The command in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [*COMMAND, "run", str(suite), "--only", "l-softmax", "--no-report", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )


def outcome_files(folder):
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for pattern in ("history.jsonl", "result.json")
        for path in folder.glob(f"runs/long/*/{pattern}")
    }


@pytest.fixture(scope="session")
def undisturbed(long_suite, made_once):
    def run(folder):
        process = start(long_suite, folder)
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output

    files = outcome_files(made_once("undisturbed", run))
    assert len(files) == 4
    return files


def wait_until(happened, otherwise):
    """Until something is so; not for ever."""
    deadline = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def wait_for_history(folder, lines):
    """Until some cell has recorded so many rows."""
    wait_until(
        lambda: any(
            len(path.read_text().splitlines()) >= lines
            for path in folder.glob("runs/long/*/history.jsonl")
        ),
        "no history was written",
    )


def owners(folder):
    """The process numbers that hold a lease."""
    pids = set()
    for path in folder.glob("runs/long/*/lease-*.json"):
        content = json.loads(path.read_text())
        if not content["released"]:
            pids.add(content["owner"]["pid"])
    return pids


def test_a_run_killed_without_warning_again_and_again_ends_as_if_undisturbed(
    long_suite, undisturbed, tmp_path
):
    for rows_before_kill in (0, 1, 5, 10):
        process = start(long_suite, tmp_path, "--checkpoint-seconds", "0.2")
        if rows_before_kill:
            wait_for_history(tmp_path, rows_before_kill)
        else:
            wait_until(lambda: owners(tmp_path), "no lease was written")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pid in owners(tmp_path):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        assert outcome_files(tmp_path) != undisturbed
    again = start(long_suite, tmp_path)
    output, _ = again.communicate(timeout=900)
    assert again.returncode == 0, output
    assert outcome_files(tmp_path) == undisturbed


def test_a_killed_worker_fails_its_cell_alone(long_suite, undisturbed, tmp_path):
    process = start(long_suite, tmp_path, "--workers", "1", "--checkpoint-seconds", "0.2")
    wait_for_history(tmp_path, 3)
    (victim,) = owners(tmp_path)
    os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 1
    assert "killed by SIGKILL (out of memory?)" in output
    assert output.count("test error") >= 1
    again = start(long_suite, tmp_path)
    assert again.wait(timeout=900) == 0
    assert outcome_files(tmp_path) == undisturbed


def test_ctrl_c_writes_checkpoints_and_run_continues(long_suite, undisturbed, tmp_path):
    process = start(long_suite, tmp_path)
    wait_for_history(tmp_path, 3)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 130, output
    assert "the same command continues" in output
    assert "Traceback" not in output
    assert owners(tmp_path) == set()
    assert list(tmp_path.glob("runs/long/*/checkpoint.pt"))
    again = start(long_suite, tmp_path)
    output, _ = again.communicate(timeout=900)
    assert again.returncode == 0, output
    assert outcome_files(tmp_path) == undisturbed


def test_ctrl_c_while_the_workers_load_prints_no_traceback(long_suite, tmp_path):
    process = start(long_suite, tmp_path)

    def is_loading():
        # Other children are short-lived: importing torch asks ldconfig, say.
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children()
            return any("multiprocessing.forkserver" in " ".join(c.cmdline()) for c in children)
        return False

    wait_until(is_loading, "no server was started")
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 130, output
    assert "the same command continues" in output
    assert "Traceback" not in output
    assert "KeyboardInterrupt" not in output


def test_ctrl_c_within_executed_text_has_the_same_status(tmp_path):
    """As in an import that makes a named tuple: `python -m` then ends by the signal."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "from marginbench.command_line import main\n"
        "@main.command('interrupted')\n"
        "def interrupted(): exec('raise KeyboardInterrupt')\n"
        "sys.argv[1:] = ['interrupted']\n"
        "main()\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 130
    assert ended.stderr == "stopped; the same command continues\n"


def test_two_at_once_train_each_cell_once(long_suite, undisturbed, tmp_path):
    both = [start(long_suite, tmp_path, "--workers", "1") for _ in range(2)]
    outputs = [process.communicate(timeout=900)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outcome_files(tmp_path) == undisturbed
    logs = list(tmp_path.glob("runs/long/*/log.txt"))
    assert len(logs) == 2
    for log in logs:
        assert log.read_text().count("training from iteration 0 of") == 1
