"""Cells in a queue that is a file: which jobs `cancel` ends, what `status` and `logs` know."""

import os

import pytest

from marginbench.dispatch.slurm.submissions import submissions
from marginbench.runs.run_folder import RunFolder

CPU = ("--gpus", 0)

# Two heads and two seeds; what the suite is may change after submission.
SUITE = """
import os

from marginbench.experiments.cells import Optimiser, Schedule
from marginbench.experiments.grids import component, grid, suite


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
FAKE = """#!/bin/sh
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
        echo "$number|$index|$number|PENDING|$comment|0:00|1:00:00||Priority" >> queue
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
            program.write_text(FAKE.replace("FOLDER", str(folder)).replace("SIZE", str(array_size)))
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
    file.write_text(SUITE)
    return file


@pytest.fixture
def call(marginbench, suite_file, slurm):
    """A verb on the suite; what it printed."""

    def run(verb, *arguments, status=0):
        done = marginbench(verb, suite_file, *arguments)
        assert status is None or done.returncode == status, done.stderr
        return " ".join((done.stdout + done.stderr).split())

    return run


@pytest.fixture
def named(call):
    """The folder's name of the cell of a head and a seed, as `status` prints it."""

    def find(head, seed):
        words = call("status", "--seeds", seed + 1, status=None).split()
        (name,) = [word for word in words if f"-{head}-" in word and f"-seed{seed}-" in word]
        return name

    return find


def finish(suite_folder, cell):
    """Give a cell a result."""
    folder = RunFolder(suite_folder, cell)
    folder.create()
    result = {"key": cell.key, "outcome": "finished", "reason": "", "iteration": 8}
    folder.write_result(result | {"train_error": 0.1, "test_error": 0.2, "device": "cpu"})


def test_cancel_of_a_head_leaves_the_other_heads_jobs_in_the_queue(call, slurm):
    call("submit", *CPU)
    assert slurm.waiting() == ["100_0", "100_1", "100_2", "100_3"]
    assert "cancelled 2 cells" in call("cancel", "--only", "arcface")
    assert slurm.cancelled() == ["100_2", "100_3"]
    assert "2 pending, 2 cancelled" in call("status")
    assert "cancelled 2 cells" in call("cancel")
    assert slurm.cancelled() == ["100"]
    assert slurm.waiting() == []


def test_cancel_of_the_first_seeds_leaves_the_others_in_the_queue(call, slurm):
    call("submit", *CPU, "--seeds", 3)
    # The array of softmax, and that of arcface.
    assert slurm.waiting() == ["100_0", "100_1", "100_2", "101_0", "101_1", "101_2"]
    assert "cancelled 2 cells" in call("cancel", "--seeds", 1)
    assert slurm.cancelled() == ["100_0", "101_0"]
    assert "cancelled 2 cells" in call("cancel", "--seeds", 2)
    assert slurm.cancelled() == ["100_1", "101_1"]
    assert slurm.waiting() == ["100_2", "101_2"]


def test_a_job_that_also_holds_another_cell_stays(call, slurm, named):
    call("submit", *CPU, "--seeds", 3, "--cells-per-job", 2)
    # Jobs of softmax 0 1, of softmax 2 and arcface 0, of arcface 1 2.
    assert slurm.waiting() == ["100_0", "100_1", "100_2"]
    assert "cancelled 3 cells" in call("cancel", "--seeds", 3, "--only", "arcface")
    assert slurm.cancelled() == ["100_2"]
    assert "3 pending, 3 cancelled" in call("status", "--seeds", 3)
    assert "cancelled 1 cell" in call("cancel", "--seeds", 3, named("softmax", 2))
    # Its other cell was cancelled before.
    assert slurm.cancelled() == ["100_1"]
    assert slurm.waiting() == ["100_0"]


def test_a_job_whose_other_cells_are_done_is_cancelled(call, slurm, named, tmp_path):
    call("submit", *CPU, "--cells-per-job", 2)
    assert slurm.waiting() == ["100_0", "100_1"]
    (submission,) = submissions(tmp_path / "runs/queued")
    finish(submission.suite_folder, submission.cells(0, 1)[0])
    assert "cancelled 1 cell" in call("cancel", named("arcface", 1))
    assert slurm.cancelled() == ["100_1"]
    assert "cancelled 1 cell" in call("cancel", named("softmax", 1))
    assert slurm.cancelled() == []
    assert slurm.waiting() == ["100_0"]


def test_cancel_with_several_submissions(call, slurm, named):
    call("submit", *CPU, "--only", "softmax")
    call("submit", "--seeds", 1)
    call("submit", "--seeds", 3, "--cells-per-job", 2)
    # softmax 0, softmax 1 | arcface 0, a plain job | softmax 2 and arcface 1, arcface 2.
    assert slurm.waiting() == ["100_0", "100_1", "101", "102_0", "102_1"]
    assert "cancelled 1 cell" in call("cancel", named("arcface", 1)[-12:], "--seeds", 3)
    assert slurm.cancelled() == []
    assert "cancelled 2 cells" in call("cancel", "--only", "arcface", "--seeds", 3)
    assert slurm.cancelled() == ["101", "102_1"]
    # What was cancelled is submitted again; the job that held it before goes with its other cell.
    call("submit", "--seeds", 2, "--cells-per-job", 1)
    assert slurm.waiting() == ["100_0", "100_1", "102_0", "103_0", "103_1"]
    assert "cancelled 3 cells" in call("cancel", "--only", "softmax", "--seeds", 3)
    assert slurm.cancelled() == ["100", "102_0"]
    assert slurm.waiting() == ["103_0", "103_1"]


def test_cancel_without_filters_means_all_that_was_submitted(call, slurm):
    call("submit", *CPU, "--seeds", 4)
    assert "8 cells: 8 pending" in call("status")
    told = call("submit")
    assert "queued: 4 cells: 4 pending; 0 to submit" in told
    assert "cancelled 4 cells" in call("cancel", "--only", "arcface")
    assert slurm.cancelled() == ["101"]
    assert "cancelled 4 cells" in call("cancel")
    assert slurm.cancelled() == ["100"]
    assert slurm.waiting() == []
    # Only what the suite has by itself is submitted again.
    assert "submitted 4 cells" in call("submit")


def test_cells_that_left_the_suite_are_shown_and_cancelled(call, slurm, named, monkeypatch):
    call("submit", *CPU)
    old = named("softmax", 0)
    monkeypatch.setenv("RATE", "0.2")
    told = call("status")
    assert f"{old} queued pending 0/8 left the suite, job 100_0: Priority" in told
    assert "4 cells: 4 not submitted" in told
    assert (
        "left the suite since submission, or came by --head or --plugin: 4 cells: 4 pending; "
        in told
    )
    assert f"{old} (pending) has written nothing yet" in call("logs", old, status=1)
    # One cell by its name, those of a head, then all: the old and the new.
    assert "cancelled 1 cell" in call("cancel", old)
    assert slurm.cancelled() == ["100_0"]
    assert "or came by --head or --plugin: 4 cells: 3 pending, 1 cancelled; `cancel`" in call(
        "submit"
    )
    assert slurm.waiting() == ["100_1", "100_2", "100_3", "101_0", "101_1", "101_2", "101_3"]
    assert "cancelled 4 cells" in call("cancel", "--only", "arcface")
    assert slurm.cancelled() == ["100_2", "100_3", "101_2", "101_3"]
    assert "cancelled 3 cells" in call("cancel")
    assert slurm.cancelled() == ["100", "101"]
    told = call("status")
    assert told.endswith("came by --head or --plugin: 4 cells: 4 cancelled")
    assert old not in told


def test_a_head_that_left_the_suite_can_be_named(call, slurm, monkeypatch):
    call("submit", *CPU, "--seeds", 3)
    monkeypatch.setenv("HEADS", "softmax")
    told = call("status", "--only", "softmax,arcface")
    assert "3 cells: 3 pending note: left the suite" in told
    refused = call("submit", "--only", "arcface", status=1)
    assert "no cell with the head 'arcface'" in refused
    assert "have left it" in refused
    refused = call("cancel", "--only", "triplet", status=1)
    assert "no cell with the head 'triplet'; its heads: softmax, arcface" in refused
    assert "cancelled 3 cells" in call("cancel", "--only", "arcface")
    assert slurm.cancelled() == ["101"]
    assert "3 pending" in call("status")


def test_submitted_cells_that_do_not_read_are_told(call, slurm, tmp_path, monkeypatch):
    call("submit", *CPU)
    (file,) = tmp_path.glob("runs/queued/submissions/*/array-000.cells.jsonl")
    file.write_text(file.read_text().replace('\\"seed\\": 0', '\\"seed\\": -1'))
    assert "damaged" not in call("status")
    monkeypatch.setenv("RATE", "0.2")
    told = call("status")
    assert f"note: {file.relative_to(tmp_path)} is damaged" in told
    assert "4 cells: 4 not submitted" in told
    assert "array-000.cells.jsonl is damaged" in call("cancel")
    assert slurm.cancelled() == []


def test_a_job_whose_other_cells_do_not_read_goes_on(call, slurm, tmp_path):
    call("submit", *CPU, "--seeds", 3, "--cells-per-job", 2)
    (file,) = tmp_path.glob("runs/queued/submissions/*/array-000.cells.jsonl")
    file.write_text("[]\n")
    assert "cancelled 3 cells" in call("cancel", "--seeds", 3, "--only", "arcface")
    assert slurm.cancelled() == ["100_2"]


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs and eight cores; the jobs that are started there, none of them
    really."""
    started = []

    def start(folder, settings, jobs):
        started.append((len(jobs), settings.gpus))
        return [str(os.getpid())] * len(jobs)

    def make(gpus):
        monkeypatch.setattr("marginbench.dispatch.slurm.executor.local_gpus", lambda: gpus)
        return started

    monkeypatch.setattr("marginbench.dispatch.slurm.executor.start_local_jobs", start)
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
    told = call("submit", "--executor", "local", "--gpus", 2, status=1)
    assert told.endswith(words)
    assert started == []
    assert not list(tmp_path.glob("runs/queued/submissions/2*"))


def test_the_settings_of_a_cluster_are_not_those_of_local_processes(call, machine, slurm):
    started = machine(0)
    call("submit", "--only", "softmax", "--hours", 2)
    told = call("submit", "--executor", "local")
    assert "last submission" not in told
    assert started == [(2, 0)]
    told = call("submit", "--executor", "slurm", "--seeds", 3, "--dry-run")
    assert "settings not given are those of the last submission" in told
    assert "--time=120" in told
    assert "--gpus-per-node=1" in told
