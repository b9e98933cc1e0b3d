"""Two processes of a job on one cell: where one dies, the attempt ends and the job goes on."""

import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkProcess

import psutil
import pytest

from marginbench.dispatch import cell_processes
from marginbench.dispatch.slurm import cell_runner
from marginbench.dispatch.slurm.settings import make_settings
from marginbench.dispatch.slurm.submission import Submission
from marginbench.files import write_text_atomically
from marginbench.runs import attempts
from marginbench.runs.cell_status import State
from marginbench.runs.code_version import code_version
from marginbench.runs.lease import Lease
from marginbench.runs.run_folder import RunFolder
from tests.conftest import fork_context, tiny_cell
from tests.dispatch.slurm.slurm_cluster import wait_until

STEP = 8
DEADLINE = 900
KILLED = "its process was killed by SIGKILL"
FAILED = "its process ended with status 1"

# By the cell's seed: what befalls which rank of its first attempt, when, and what is said of it.
FAULTS = [
    ("killed", 0, "before it joins", KILLED),
    ("killed", 1, "before it joins", KILLED),
    ("killed", 0, "in the middle", KILLED),
    ("killed", 1, "in the middle", KILLED),
    ("failed", 1, "before it joins", FAILED),
    ("failed", 1, "in the middle", ""),
    ("failed", 1, "before it starts", "its processes cannot be started: no more processes"),
]


def first_attempt(task):
    folder = RunFolder(task.suite_folder, task.cell)
    return folder, len(attempts.read_attempts(folder.path)) == 1


def strike(kind):
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(1) if kind == "failed" else AssertionError(kind)


def work_with_faults(task, work=cell_processes.work_in_child):
    """In a forked process: its first attempt meets the fault of its seed."""
    from marginbench.training import loop as training

    kind, rank, moment, _ = FAULTS[task.cell.seed]
    own_train = training.train

    def train(*arguments, **options):
        counted = iter(range(1, 10**6))
        options["should_stop"] = lambda: next(counted) == STEP and strike(kind)
        return own_train(*arguments, **options)

    if task.rank == rank and first_attempt(task)[1]:
        if moment == "before it joins":
            strike(kind)
        training.train = train
    work(task)


def start_with_faults(process, start=ForkProcess.start):
    task = process._args[0]
    folder, first = first_attempt(task)
    if first and task.rank == 1 and FAULTS[task.cell.seed][2] == "before it starts":
        raise OSError("no more processes")
    if not first and not (folder.path / "said").exists():
        # The next attempt removes the word of the last one.
        (folder.path / "said").write_text(folder.read_failure()["error"])
    start(process)


def job(path, cells, faults):
    """The whole life of a job's process, without SLURM."""
    os.environ |= {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}
    # Long enough for a loaded machine, and not to be waited for here.
    cell_processes.FAILURE_SECONDS = 0.1
    cell_runner.BUSY_RETRY_SECONDS = 0.1
    if faults:
        cell_processes.work_in_child = work_with_faults
        ForkProcess.start = start_with_faults
    runner = cell_runner.CellRunner(Submission(path), cells)

    def stop(number, frame):
        runner.stop()
        raise SystemExit(3)

    signal.signal(signal.SIGUSR2, stop)
    runner.run()


@pytest.fixture
def start_job(tmp_path):
    """Start a job that trains cells with two processes; each call another suite's folder."""
    context = fork_context()
    started = []

    def start(cells, suite="tiny", faults=False):
        settings = make_settings(
            {"gpus": 0, "processes": 2, "checkpoint_seconds": 0, "grace": 2 * DEADLINE}
        )
        made = Submission.create(tmp_path / suite, settings, "local", [], code_version())
        process = context.Process(target=job, args=(made.path, cells, faults))
        process.start()
        started.append(psutil.Process(process.pid))
        return process, [RunFolder(tmp_path / suite, cell) for cell in cells]

    yield start
    for process in started:
        if process.is_running():
            for one in (*process.children(recursive=True), process):
                one.kill()


def tell_what_is_loaded(task):
    """In a forked process, in place of training."""
    loaded = "torch._dynamo" in sys.modules
    write_text_atomically(task.suite_folder / f"{task.ranks}-{task.rank}", str(loaded))
    # The first one that ends without a result ends the others too.
    told = [task.suite_folder / f"{task.ranks}-{rank}" for rank in range(task.ranks)]
    wait_until(lambda: all(file.exists() for file in told), "what every process tells", DEADLINE)


def load_and_tell(folder):
    """In a process that has loaded no more than a job has: jobs of one and of two processes."""
    os.environ |= {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}
    cell_processes.work_in_child = tell_what_is_loaded
    for processes in (1, 2):
        settings = make_settings({"gpus": 0, "processes": processes, "attempts": 1})
        made = Submission.create(folder, settings, "local", [], code_version())
        cell_runner.CellRunner(made, [tiny_cell(seed=processes)]).run()


def test_what_several_processes_need_is_loaded_once_before_they_are_forked(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=load_and_tell, args=(tmp_path,))
    process.start()
    process.join(DEADLINE)
    assert process.exitcode == 0
    told = {path.name: path.read_text() for path in tmp_path.glob("[12]-[01]")}
    assert told == {"1-0": "False", "2-0": "True", "2-1": "True"}


def ends(folder):
    return [one.end for one in attempts.read_attempts(folder.path)]


def outcome(folder):
    return [(folder.path / name).read_bytes() for name in ("history.jsonl", "result.json")]


def test_whichever_process_dies_the_cell_is_tried_again_and_ends_as_if_undisturbed(start_job):
    cells = [tiny_cell(seed=seed) for seed in range(len(FAULTS))]
    process, folders = start_job(cells, faults=True)
    process.join(DEADLINE)
    assert process.exitcode == 0
    for folder, (kind, _, _, said) in zip(folders, FAULTS, strict=True):
        assert folder.status().state == State.DONE
        assert ends(folder) == [kind, "done"]
        assert (folder.path / "said").read_text().startswith(said)
    process, undisturbed = start_job(cells[2:4], "undisturbed")
    process.join(DEADLINE)
    for folder, other in zip(folders[2:4], undisturbed, strict=True):
        assert outcome(folder) == outcome(other)


def test_a_cell_that_another_job_trains_is_left_to_it(start_job, tmp_path):
    cell = tiny_cell()
    folder = RunFolder(tmp_path / "tiny", cell)
    folder.path.mkdir(parents=True)
    with Lease.acquire(folder.path):
        process, _ = start_job([cell])
        wait_until(
            lambda: ends(folder).count("busy") > 1, "a second reading of the lease", DEADLINE
        )
    process.join(DEADLINE)
    assert process.exitcode == 0
    assert set(ends(folder)) == {"busy", "done"}


def test_a_stopped_job_has_written_its_checkpoint(start_job):
    cell = tiny_cell(iterations=2000)
    process, (folder,) = start_job([cell])
    wait_until(folder.checkpoint.exists, "a checkpoint", DEADLINE)
    os.kill(process.pid, signal.SIGUSR2)
    process.join(DEADLINE)
    assert process.exitcode == 3
    assert ends(folder) == ["stopped"]
    assert folder.status().state == State.STOPPED
