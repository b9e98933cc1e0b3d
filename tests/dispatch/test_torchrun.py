"""What fails on one of torchrun's processes fails on all, and they go on with the next cell."""

import os
from datetime import timedelta

import pytest

from marginbench.dispatch.worker import FAILED_STATUS, TrainingTask
from marginbench.errors import UserError
from marginbench.runs.cell_status import State
from marginbench.runs.run_folder import RunFolder
from tests.conftest import tiny_cell
from tests.training.test_ranks import _work as work_on_rank
from tests.training.two_processes import SIZE, free_address, on_ranks, torchrun_environment


def together(ranks, address, cells, suite_folder, patch):
    """Train cells as one of torchrun's processes; name, state and message of those that ended."""
    from marginbench.dispatch.torchrun import RankFailed, run_together

    os.environ |= torchrun_environment(ranks, address)
    patch(ranks.rank)
    tasks = [TrainingTask(cell=cell, suite_folder=suite_folder) for cell in cells]
    try:
        progress = run_together(tasks, "cpu", lambda progress: None)
    except RankFailed as error:
        return str(error)
    return [(status.state, status.message) for _, status in progress.ended]


def fail_before_the_first_step(rank):
    """One rank fails with cell 0 and one with cell 1, while they build; one with cell 2 after."""
    from marginbench.training import loop as training
    from marginbench.training.experiment import Experiment

    own_build, own_connect = training.build_experiment, Experiment.connect_ranks

    def build(cell, *arguments):
        if (cell.seed, rank) in ((0, 1), (1, 0)):
            raise RuntimeError("out of memory\nin many lines")
        return own_build(cell, *arguments)

    def connect(experiment):
        own_connect(experiment)
        if (experiment.cell.seed, rank) == (2, 1):
            raise RuntimeError("no bucket")

    training.build_experiment = build
    Experiment.connect_ranks = connect


def fail_in_the_middle(rank):
    from marginbench.training import loop as training

    own_step = training.TrainingStep.__call__

    def step(self):
        if rank == 1:
            raise RuntimeError("a fault")
        own_step(self)

    training.TrainingStep.__call__ = step


def no_patch(rank):
    pass


def test_an_error_of_one_rank_before_the_first_step_costs_that_cell_only(tmp_path):
    cells = [tiny_cell(seed=seed) for seed in range(4)]
    ended, _ = on_ranks(together, cells, tmp_path, fail_before_the_first_step)
    assert ended == [
        (State.FAILED, "OtherRankFailed: process 1 of the cell: RuntimeError: out of memory"),
        (State.FAILED, "RuntimeError: out of memory"),
        (State.FAILED, "OtherRankFailed: process 1 of the cell: RuntimeError: no bucket"),
        (State.DONE, ""),
    ]
    for cell in cells[:3]:
        assert RunFolder(tmp_path, cell).read_failure()["final"] is False


def test_a_run_folder_that_cannot_be_used_costs_its_cell_only(tmp_path):
    cells = [tiny_cell(seed=seed) for seed in range(3)]
    first, second, _ = (RunFolder(tmp_path, cell) for cell in cells)
    first.path.write_text("a file in the folder's place")
    second.log.mkdir(parents=True)
    ended, _ = on_ranks(together, cells, tmp_path, no_patch)
    assert ended == [
        (State.DAMAGED, f"{first.path} is damaged: it is not a folder"),
        (State.DAMAGED, f"{second.log} is damaged: it is not a file"),
        (State.DONE, ""),
    ]


def test_an_error_in_the_middle_ends_all_ranks_with_one_message(tmp_path):
    cell = tiny_cell()
    folder = RunFolder(tmp_path, cell)
    said = on_ranks(together, [cell, tiny_cell(seed=1)], tmp_path, fail_in_the_middle)
    assert said == [f"{folder.path.name} failed; see {folder.log}"] * SIZE
    assert "RuntimeError: a fault" in folder.log.read_text()


def alone(ranks, address, cell, suite_folder):
    from marginbench.training import ranks as module

    if ranks.rank == 1:
        return None
    module.TIMEOUT = timedelta(seconds=1)
    return work_on_rank(ranks, address, cell, suite_folder)


def test_processes_that_do_not_find_each_other_may_try_again(tmp_path):
    cell = tiny_cell()
    assert on_ranks(alone, cell, tmp_path) == [FAILED_STATUS, None]
    failure = RunFolder(tmp_path, cell).read_failure()
    assert "the 2 processes of a cell do not find each other at tcp://127" in failure["error"]
    assert failure["final"] is False


def test_torchruns_processes_that_do_not_find_each_other_are_reported_so(tmp_path, monkeypatch):
    from marginbench.dispatch.torchrun import run_together
    from marginbench.training import ranks as module

    monkeypatch.setattr(module, "TIMEOUT", timedelta(seconds=1))
    for name, value in torchrun_environment(module.Ranks(0, SIZE), free_address()).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="the 2 processes of a cell do not find each other"):
        run_together(
            [TrainingTask(cell=tiny_cell(), suite_folder=tmp_path)], "cpu", lambda progress: None
        )
