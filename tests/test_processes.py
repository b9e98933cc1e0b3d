"""Calls side by side in forked processes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from marginbench.processes import cores, in_parts, side_by_side


def test_results_come_in_order_from_other_processes_and_change_nothing_here():
    seen = []

    def call(number):
        seen.append(number)
        return number, os.getpid()

    found = side_by_side([partial(call, number) for number in range(6)], processes=2)
    assert [number for number, _ in found] == list(range(6))
    assert os.getpid() not in {pid for _, pid in found}
    assert not seen


def test_one_process_is_this_one():
    assert side_by_side([os.getpid, os.getpid], processes=1) == [os.getpid()] * 2
    assert side_by_side([], processes=2) == []


def test_what_a_call_raises_is_raised_here():
    def fail():
        raise PermissionError(13, "no")

    with pytest.raises(PermissionError, match="no"):
        side_by_side([os.getpid, fail], processes=2)


def test_where_a_process_is_killed_all_calls_are_made_here():
    own = os.getpid()

    def call():
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    assert side_by_side([call, call], processes=2) == [own, own]


def test_many_items_are_cut_into_a_part_a_process():
    found = in_parts(lambda item: (item, os.getpid()), range(7), at_least=3, processes=3)
    assert [item for item, _ in found] == list(range(7))
    assert os.getpid() not in {pid for _, pid in found}


def test_few_items_are_no_work_for_another_process():
    found = in_parts(lambda item: (item, os.getpid()), range(5), at_least=3, processes=2)
    assert found == [(item, os.getpid()) for item in range(5)]


def test_ctrl_c_begins_no_more_calls_and_prints_no_traceback(tmp_path):
    """As from a terminal: every process of the group gets it, one that waits for work too."""
    program = f"""
import time
from pathlib import Path
from marginbench.processes import side_by_side

folder = Path({str(tmp_path)!r})

def long():
    (folder / "begun").touch()
    while not (folder / "go on").exists():
        time.sleep(0.05)
    (folder / "ended").touch()

def short():
    (folder / "done").touch()

def later():
    (folder / "later").touch()

import sys
calls = [long, short] if sys.argv[1] == "idle" else [long, long, later, later, later]
try:
    side_by_side(calls, processes=2)
except KeyboardInterrupt:
    print("stopped")
"""
    for case in ("idle", "busy"):
        for file in tmp_path.iterdir():
            file.unlink()
        started = subprocess.Popen(
            [sys.executable, "-c", program, case],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        awaited = ("begun", "done") if case == "idle" else ("begun",)
        deadline = time.monotonic() + 60
        while not all((tmp_path / name).exists() for name in awaited):
            assert started.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Until all processes wait, for work or in a call.
        time.sleep(0.5)
        os.killpg(started.pid, signal.SIGINT)
        time.sleep(0.2)
        (tmp_path / "go on").touch()
        output, _ = started.communicate(timeout=60)
        assert output == "stopped\n"
        assert (tmp_path / "ended").exists()
        assert not (tmp_path / "later").exists()


V2, V1 = "0::/slice/job\n", "4:cpu,cpuacct:/slice/job\n2:memory:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "job", "expected"),
    [
        ("", {}, {}, 8),
        (V2, {"cpu.max": "150000 100000\n"}, {}, 2),
        (V2, {"cpu.max": "max 100000\n"}, {}, 8),
        (V2, {"cpu.max": "20000 100000\n"}, {}, 1),
        (V2, {"slice/cpu.max": "300000 100000", "slice/job/cpu.max": "max 100000"}, {}, 3),
        (V2, {"slice/cpu.max": "900000 100000", "slice/job/cpu.max": "400000 100000"}, {}, 4),
        # A container's own group is at the top, though its path is the host's.
        (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, {}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, {}, 8),
        ("", {}, {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2"}, 2),
        ("", {}, {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4"}, 4),
        ("", {}, {"SLURM_CPUS_PER_TASK": "2"}, 8),
    ],
)
def test_cores_are_the_fewest_of_affinity_quota_and_job(
    groups, files, job, expected, tmp_path, monkeypatch
):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8), raising=False)
    for name in ("SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cores(tmp_path) == expected
