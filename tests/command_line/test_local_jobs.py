"""Jobs that `submit --executor local` starts: how many there are, and on how many GPUs."""

import os

import pytest

from marginbench.dispatch.slurm import local_executor


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs and eight cores; the jobs that are started there, none of them
    really."""
    started = []

    def start(folder, settings, jobs):
        started.append((len(jobs), settings.gpus))
        return [str(os.getpid())] * len(jobs)

    def make(gpus):
        monkeypatch.setattr(
            "marginbench.dispatch.slurm.local_executor.local_gpus", lambda: range(gpus)
        )
        return started

    monkeypatch.setattr(local_executor, "start_local_jobs", start)
    monkeypatch.setattr("marginbench.dispatch.local.default_workers", lambda device: 8)
    return make


@pytest.mark.parametrize(
    ("gpus", "options", "expected"),
    [
        (8, ["--gpus", 2], (4, 2)),
        (8, ["--gpus", 3], (2, 3)),
        (8, [], (8, 1)),
        (8, ["--gpus", 2, "--max-parallel", 3], (3, 2)),
        (2, ["--gpus", 2], (1, 2)),
        (0, [], (8, 0)),
        (0, ["--processes", 2], (4, 0)),
        (0, ["--processes", 16], (1, 0)),
    ],
)
def test_local_jobs_share_what_the_machine_has(call, machine, gpus, options, expected):
    started = machine(gpus)
    call("submit", "--seeds", 5, "--executor", "local", *options)
    assert started == [expected]


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        (0, "gpus = 2 is not allowed: this machine has 0 NVIDIA GPUs; allowed here: --gpus 0"),
        (1, "gpus = 2 is not allowed: this machine has 1 NVIDIA GPU; allowed here: --gpus 0 to 1"),
    ],
)
def test_more_gpus_than_the_machine_has_are_refused(call, machine, tmp_path, gpus, words):
    started = machine(gpus)
    output = call("submit", "--executor", "local", "--gpus", 2, status=1)
    assert output.endswith(words)
    assert started == []
    assert not (tmp_path / "runs").exists()


def test_the_settings_of_a_cluster_are_not_those_of_local_processes(call, machine, slurm):
    started = machine(0)
    call("submit", "--only", "softmax", "--hours", 2)
    output = call("submit", "--executor", "local")
    assert "last submission" not in output
    assert started == [(2, 0)]
    output = call("submit", "--executor", "slurm", "--seeds", 3, "--dry-run")
    assert "settings not given are those of the last submission" in output
    assert "--time=120" in output
    assert "--gpus-per-node=1" in output
