"""Calling the command, here or in a process of its own; a queue of SLURM that is a file."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from marginbench.command_line import main

COMMAND = [sys.executable, "-m", "marginbench.command_line"]


def hear_ctrl_c():
    """In a new process, before it becomes the command: a shell's background jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def marginbench(tmp_path: Path, monkeypatch, capsys, fork_server):
    """Call the command in an empty folder: ``marginbench("run", "digits")``.

    In this process, which has torch loaded already; the cells are trained in workers all the same.
    """

    def call(*arguments: object) -> Done:
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments], prog_name="marginbench")
        out, err = capsys.readouterr()
        return Done(ended.value.code or 0, out, err)

    return call


@pytest.fixture
def marginbench_process(tmp_path: Path):
    """The same in a process of its own, with environment variables to choose."""

    def call(
        *arguments: object, cwd: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return call


@pytest.fixture
def record_suite(tmp_path: Path):
    """Write a suite's manifest below ``runs``, in a process that has loaded no other plug-in."""

    def call(suite: Path) -> None:
        code = (
            "import sys\nfrom pathlib import Path\n"
            "from marginbench.runs.suite_runs import open_suite\n"
            "open_suite(sys.argv[1], Path('runs')).record()"
        )
        subprocess.run([sys.executable, "-c", code, str(suite)], cwd=tmp_path, check=True)

    return call


# Two heads and two seeds; what the suite is may change after submission.
QUEUED_SUITE = """
import os

from marginbench import Optimiser, Schedule, component, grid, suite


@suite("queued", description="a suite for tests", seeds=2)
def queued(seeds):
    return grid(
        setting="queued",
        data="digits",
        backbone=component("small", widths=[4], features=2),
        head=os.environ.get("HEADS", "softmax arcface").split(),
        optimiser=Optimiser(learning_rate=float(os.environ.get("RATE", "0.1"))),
        schedule=Schedule(iterations=8, batch_size=32, evaluations=1),
        seed=seeds,
    )
"""

# sbatch numbers its arrays from 100 and lists their jobs, one a line; scancel removes lines.
FAKE_SLURM = """#!/bin/sh
cd "FOLDER"
case "$(basename "$0")" in
scontrol) printf 'ClusterName = fake\\nMaxArraySize = SIZE\\nMaxJobCount = 10000\\n';;
squeue) cat queue;;
sbatch)
    number=$((100 + $(wc -l < arrays)))
    echo $number >> arrays
    last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
    comment=$(sed -n "s/^#SBATCH --comment='\\(.*\\)'/\\1/p" "$1")
    for index in $(test -n "$last" && seq 0 "$last" || echo N/A); do
        echo "$number|$index|$number|PENDING|$comment||Priority" >> queue
    done
    echo "Submitted batch job $number";;
scancel)
    shift
    for job in "$@"; do
        echo "$job" >> cancelled
        case "$job" in *_*) job="${job%_*}|${job#*_}";; esac
        grep -v "^$job|" queue > rest
        mv rest queue
    done;;
esac
"""


class FakeSlurm:
    """SLURM's commands, in whose queue all jobs wait until they are cancelled."""

    def __init__(self, folder, array_size):
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for name in ("queue", "arrays", "cancelled"):
            (folder / name).touch()
        for name in ("sbatch", "squeue", "scontrol", "scancel", "srun"):
            program = folder / "bin" / name
            program.write_text(
                FAKE_SLURM.replace("FOLDER", str(folder)).replace("SIZE", str(array_size))
            )
            program.chmod(0o755)

    def cancelled(self):
        """The ids that scancel was called with since the last time."""
        text = (self.folder / "cancelled").read_text()
        (self.folder / "cancelled").write_text("")
        return text.split()

    def waiting(self):
        """The jobs that are left in the queue."""
        lines = [line.split("|") for line in (self.folder / "queue").read_text().splitlines()]
        return [f"{array}_{index}".removesuffix("_N/A") for array, index, *_ in lines]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Arrays hold at most four jobs."""
    made = FakeSlurm(tmp_path / "slurm", 4)
    monkeypatch.setenv("PATH", f"{made.folder / 'bin'}:{os.environ['PATH']}")
    return made


@pytest.fixture(scope="session")
def suite_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("queued") / "queued.py"
    file.write_text(QUEUED_SUITE)
    return file


@pytest.fixture
def call(marginbench, suite_file, slurm):
    """A verb on the suite; what it printed."""

    def run(verb, *arguments, status=0):
        done = marginbench(verb, suite_file, *arguments)
        assert status is None or done.returncode == status, done.stderr
        return " ".join((done.stdout + done.stderr).split())

    return run
