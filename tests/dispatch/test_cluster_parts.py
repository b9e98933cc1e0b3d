"""The parts of a submission that need no cluster: cutting, limits, the queue's lines, attempts."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marginbench.dispatch.slurm import local_executor
from marginbench.dispatch.slurm.array_plan import plan_arrays
from marginbench.dispatch.slurm.commands import parse_limits, parse_queue
from marginbench.dispatch.slurm.inspection import _next_cell
from marginbench.dispatch.slurm.jobs import Job, all_jobs
from marginbench.dispatch.slurm.settings import make_settings, read_profile
from marginbench.dispatch.slurm.submission import Array, Submission
from marginbench.dispatch.slurm.submissions import submissions
from marginbench.dispatch.slurm.submitting import check_path
from marginbench.errors import DamagedFile, UserError
from marginbench.runs import attempts
from marginbench.runs.cell_status import CellStatus, State
from marginbench.runs.code_version import changes, code_version
from marginbench.runs.process_identity import this_host


@given(
    st.integers(1, 5000), st.integers(1, 1001), st.one_of(st.none(), st.integers(1, 200))
)  # fmt: skip
def test_arrays_hold_all_jobs_and_keep_every_limit(jobs, array_size, max_parallel):
    arrays = plan_arrays(jobs, array_size, max_parallel)
    assert sum(size for size, _ in arrays) == jobs
    assert all(1 <= size <= array_size for size, _ in arrays)
    assert all(slot.parallel >= 1 for _, slot in arrays)
    if max_parallel is None:
        assert all(slot.after is None and slot.parallel == size for size, slot in arrays)
        return
    # Arrays that wait for another run one after the other: of each line, the widest counts.
    widest = {}
    for number, (_, slot) in enumerate(arrays):
        line = number if slot.after is None else next(k for k in widest if slot.after in k)
        members = (number,) if slot.after is None else (*line, number)
        before = 0 if slot.after is None else widest.pop(line)
        widest[members] = max(before, slot.parallel)
    assert sum(widest.values()) <= max_parallel
    if max_parallel <= array_size:
        assert sum(widest.values()) == min(max_parallel, jobs) or len(arrays) > 1


CONFIG = """Configuration data as of 2024-01-01T00:00:00
ClusterName             = alpha
MaxArraySize            = {size}
MaxJobCount             = 10000
SchedulerParameters     = bf_interval=30{more}
"""


@pytest.mark.parametrize(
    ("size", "more", "expected"),
    [(1001, "", 1001), (0, "", 1), (1001, ",max_array_tasks=500", 500), (4, "", 4)],
)
def test_limits_are_read_from_slurms_configuration(size, more, expected):
    limits = parse_limits(CONFIG.format(size=size, more=more))
    assert (limits.cluster, limits.array_size, limits.queue_size) == ("alpha", expected, 10000)


def test_lines_of_the_queue():
    text = (
        "7|3|12|RUNNING|marginbench a 0|n1|None\n"
        "9|N/A|9|PENDING|marginbench b 1||Nodes required | DOWN\n"
    )
    running, waiting = parse_queue(text)
    assert (running.job, running.state, running.comment) == ("7_3", "RUNNING", "marginbench a 0")
    assert (waiting.job, waiting.reason) == ("9", "Nodes required | DOWN")


def test_settings_have_an_order_of_rank(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config/marginbench").mkdir(parents=True)
    (tmp_path / "config/marginbench/marginbench.toml").write_text(
        "[profiles.a]\nhours = 1\n[profiles.b]\nhours = 2.01\n"
    )
    (tmp_path / "marginbench.toml").write_text("[profiles.a]\nhours = 3\ngpus = 0\n")
    assert read_profile("a") == {"hours": 3, "gpus": 0}
    settings = make_settings({"gpus": None, "hours": 5}, read_profile("a"))
    assert (settings.gpus, settings.hours) == (0, 5)
    assert make_settings(read_profile("b")).minutes == 121
    (tmp_path / "marginbench.toml").write_text("[profiles.a\n")
    with pytest.raises(UserError, match=r"marginbench\.toml cannot be read"):
        read_profile("a")


class Slurm:
    """A machine of a cluster."""

    def __init__(self, cluster):
        self.cluster = cluster


@pytest.mark.parametrize(
    ("submitted_on", "owner", "here", "expected"),
    [
        ("alpha", None, "alpha", ""),
        ("alpha", None, "beta", "cluster alpha"),
        ("alpha", None, None, "cluster alpha"),
        ("local", {"host": "desk"}, None, "host desk"),
        ("local", {"host": this_host()}, "alpha", ""),
    ],
)
def test_whose_queue_a_job_is_in(submitted_on, owner, here, expected, tmp_path):
    made = Submission.create(tmp_path, make_settings(), submitted_on, [], {})
    array = Array(made, 0, [["key"]], ["7"], [owner] if owner else [])
    assert Job("7", array, 0, None, False).remote_owner(Slurm(here)) == expected
    assert Job("7", array, 0, None, True).remote_owner(Slurm(here)) == ""


class Cell:
    """Attempts at a cell, written as a job would."""

    def __init__(self, folder):
        self.folder = folder

    def attempt(self, end, progress=False):
        name = attempts.start_attempt(self.folder, "s", "1", 0, [])
        if progress:
            path = self.folder / "checkpoint.pt"
            stamp = path.stat().st_mtime_ns + 10**9 if path.exists() else 10**18
            path.touch()

            os.utime(path, ns=(stamp, stamp))
        if end:
            attempts.end_attempt(self.folder, name, end)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], (0, 0)),
        ([("failed", False), ("failed", True), ("killed", True)], (3, 0)),
        # An attempt that vanished with its job counts only if it got nowhere.
        ([("", True), ("", True)], (0, 0)),
        ([("", False), ("", False)], (2, 0)),
        # Asked to stop: no failure; ten times without an iteration is a time limit too short.
        ([("stopped", True)] * 20, (0, 0)),
        ([("stopped", True)] + [("stopped", False)] * 3, (0, 3)),
        ([("stopped", False)] * 3 + [("stopped", True)], (0, 0)),
        ([("busy", False)] * 5, (0, 0)),
    ],
)
def test_what_counts_as_a_failure(tmp_path, history, expected):
    cell = Cell(tmp_path)
    for end, progress in history:
        cell.attempt(end, progress)
    assert attempts.failures(tmp_path, "s") == expected
    assert attempts.failures(tmp_path, "another submission") == (0, 0)


def test_a_torn_line_of_attempts_is_left_out(tmp_path):
    cell = Cell(tmp_path)
    cell.attempt("failed")
    with (tmp_path / attempts.FILE).open("a") as file:
        file.write('{"attempt": "torn')
    cell.attempt("done")
    assert [one.end for one in attempts.read_attempts(tmp_path)] == ["failed", "done"]


def test_attempts_and_settings_are_known_by_the_names_they_once_had(tmp_path):
    """A suite that was submitted by an earlier version, with a job of that version still at it."""
    start = {"try": "7/0/1", "submission": "s", "job": "7", "restart": 0, "host": "n1"}
    start |= {"started": 1.0, "checkpoint": 0, "changed": []}
    end = {"try": "7/0/1", "end": "failed", "ended": 2.0}
    (tmp_path / "tries.jsonl").write_text(f"{json.dumps(start)}\n{json.dumps(end)}\n")
    Cell(tmp_path).attempt("killed")
    assert [one.end for one in attempts.read_attempts(tmp_path)] == ["failed", "killed"]
    assert attempts.failures(tmp_path, "s") == (2, 0)
    assert make_settings({"tries": 5}).attempts == 5
    assert make_settings({"attempts": 2}, {"tries": 5}).attempts == 2
    made = Submission.create(tmp_path, make_settings(), "alpha", [], {})
    file = made.path / "submission.json"
    file.write_text(file.read_text().replace('"attempts": 3', '"tries": 7'))
    (found,) = submissions(tmp_path)
    assert found.settings.attempts == 7


def test_code_changes_are_reported_by_file_and_version():
    now = code_version()
    assert "marginbench/training/loop.py" in now["files"]
    assert "marginbench.losses/arcface.py" in now["files"]
    assert changes(now, now) == []
    before = {
        "python": "3.0",
        "packages": now["packages"] | {"torch": "1.0"},
        "files": {**now["files"], "marginbench/training/loop.py": "0", "marginbench/old.py": "0"},
    }
    output = changes(before, now)
    assert output[0].startswith("Python 3.0 → ")
    assert output[1].startswith("torch 1.0 → ")
    assert output[2:] == ["marginbench/old.py gone", "marginbench/training/loop.py changed"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("submission.json", "[]", "not a JSON object"),
        ("submission.json", "{}", "it needs the field 'submitted'"),
        ("submission.json", '{"submitted": "x"}', "it: submitted = 'x' is not allowed"),
        ("array-000.json", "{", "not JSON"),
        ("array-000.json", '{"jobs": 1, "ids": [], "owner": []}', "it: jobs = 1 is not allowed"),
        ("array-000.json", '{"jobs": [["a"]], "ids": ["7", "8"], "owner": []}', "1 jobs, 2 ids"),
    ],
)
def test_a_damaged_submission_is_reported_in_one_line(tmp_path, name, content, words):
    made = Submission.create(tmp_path, make_settings(), "alpha", [], {})
    made.note_ids(made.plan(0, [[]]), ["7"])
    (made.path / name).write_text(content)
    with pytest.raises(DamagedFile) as refused:
        all_jobs(submissions(tmp_path), [])
    assert words in str(refused.value)
    assert str(made.path / name) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("chosen", "numbers"), [(None, [0, 1, 2, 3]), ("", []), ("2,3", [2, 3]), ("1, 7", [1])]
)
def test_local_jobs_get_gpus_that_may_be_used(monkeypatch, tmp_path, chosen, numbers):
    """Of four, as a program of nvidia-smi's name lists them."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nfor n in 0 1 2 3; do echo GPU $n: a; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert local_executor.local_gpus() == numbers
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES = 'GPU-8932f937'"):
        local_executor.local_gpus()


def test_a_local_job_is_not_of_the_submitters_session_and_has_its_output_in_a_file(tmp_path):
    job = local_executor.DetachedExecutor(tmp_path, (), ()).submit(print, "hello")
    pid = int(job.job_id)
    try:
        assert os.getsid(pid) == pid
        files = [Path(f"/proc/{pid}/fd/{number}").readlink() for number in range(3)]
        assert files == [Path(os.devnull)] * 3
    finally:
        job.wait()
    assert "hello" in (tmp_path / f"{pid}_0_log.out").read_text()


def test_a_time_limit_is_a_year_at_most():
    with pytest.raises(UserError, match=r"hours = 1e\+308 is not allowed; allowed: number from"):
        make_settings({"hours": 1e308})


LAPTOP = "GPU 0: NVIDIA GeForce RTX 4090 Laptop GPU (UUID: GPU-1a)\n"
PAIR = LAPTOP + "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-1b-2c)\n"
SLICED = (
    PAIR
    + "  MIG 3g.20gb     Device  0: (UUID: MIG-c7-01)\n"
    + "  MIG 1g.10gb Device 1: (UUID: MIG-GPU-1b-2c/7/0)\n"
)
SLICES = ["MIG-c7-01", "MIG-GPU-1b-2c/7/0"]


@pytest.mark.parametrize(
    ("listing", "chosen", "expected"),
    [
        (LAPTOP, None, [0]),
        (PAIR, None, [0, 1]),
        (PAIR, "1,0", [1, 0]),
        (PAIR, "-1", []),
        (PAIR, "0,-1,1", [0]),
        (PAIR, "7,1", []),
        (PAIR, "1,1", []),
        (PAIR, "NoDevFiles", []),
        (PAIR, "GPU-1b", ["GPU-1b-2c"]),
        (PAIR, "GPU-1a,GPU-1b-2c", ["GPU-1a", "GPU-1b-2c"]),
        (PAIR, "GPU-1", None),
        (PAIR, "MIG-1", None),
        (SLICED, None, [0, *SLICES]),
        (SLICED, "1", SLICES),
        (SLICED, "GPU-1b-2c", SLICES),
        (SLICED, "MIG-c7", SLICES[:1]),
        (SLICED, "MIG-GPU-1b-2c/7/0", SLICES[1:]),
        ("No devices found.\n", None, []),
    ],
)
def test_gpus_are_the_lines_of_nvidia_smi(listing, chosen, expected, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    (tmp_path / "listing").write_text(listing)
    program.write_text(f"#!/bin/sh\ncat '{tmp_path}/listing'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    if expected is None:
        with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES = "):
            local_executor.local_gpus()
    else:
        assert local_executor.local_gpus() == expected


@pytest.mark.parametrize("name", ["a%j", "100%", "a\\b", "a\nb"])
def test_a_path_with_patterns_is_refused_for_jobs(name, tmp_path):
    check_path(tmp_path)
    with pytest.raises(UserError, match="--runs = "):
        check_path(tmp_path / name)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["not started", "not started"], "0"),
        (["done", "not started"], "1"),
        (["running", "not started"], None),
        (["failed", "stopped"], "1"),
        (["failed", "diverged"], "0"),
        (["done", "damaged"], None),
    ],
)
def test_the_next_cell_of_a_job_is_the_one_that_starts(states, expected, tmp_path):
    made = Submission.create(tmp_path, make_settings(), "alpha", [], {})
    job = Job("7", Array(made, 0, [["0", "1", "2"]], ["7"], []), 0, None, True)
    statuses = {str(n): CellStatus(State(state)) for n, state in enumerate(states)}
    statuses["2"] = CellStatus(State.NOT_STARTED)
    assert _next_cell(job, statuses, {"2"}) == expected
