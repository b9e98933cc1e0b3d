"""Cells in a queue that is a file: which jobs `cancel` ends, what `status` and `logs` know."""

import pytest

from marginbench.dispatch.slurm.submissions import submissions
from marginbench.runs.run_folder import RunFolder

CPU = ("--gpus", 0)


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
    finish(submission.suite_folder, submission.cells_of_jobs(0, [1])[0][0])
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
    output = call("submit")
    assert "queued: 4 cells: 4 pending; 0 to submit" in output
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
    output = call("status")
    assert f"{old} queued pending 0/8 left the suite, job 100_0: Priority" in output
    assert "4 cells: 4 not submitted" in output
    assert (
        "left the suite since submission, or came by --head or --plugin: 4 cells: 4 pending; "
        in output
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
    output = call("status")
    assert output.endswith("came by --head or --plugin: 4 cells: 4 cancelled")
    assert old not in output


def test_a_head_that_left_the_suite_can_be_named(call, slurm, monkeypatch):
    call("submit", *CPU, "--seeds", 3)
    monkeypatch.setenv("HEADS", "softmax")
    output = call("status", "--only", "softmax,arcface")
    assert "3 cells: 3 pending note: left the suite" in output
    refused = call("submit", "--only", "arcface", status=1)
    assert "no cell with the head 'arcface'" in refused
    assert "have left it" in refused
    refused = call("cancel", "--only", "triplet", status=1)
    assert "no cell with the head 'triplet'; its heads: softmax, arcface" in refused
    assert "cancelled 3 cells" in call("cancel", "--only", "arcface")
    assert slurm.cancelled() == ["101"]
    assert "3 pending" in call("status")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (('"seed": 0', '"seed": -1'), "seed = -1 is not allowed"),
        (('"seed": 0', '"seed": 7'), "its key is"),
        (('"seed": 0', '"seed": '), "not JSON"),
    ],
)
def test_lines_of_the_manifest_that_do_not_read_are_reported(
    call, slurm, tmp_path, monkeypatch, damage, words
):
    call("submit", *CPU)
    file = tmp_path / "runs/queued/cells.jsonl"
    file.write_text(file.read_text().replace(*damage))
    # A cell that the suite still has is not looked up.
    assert "cells.jsonl" not in call("status")
    monkeypatch.setenv("RATE", "0.2")
    output = call("status")
    assert "note: runs/queued/cells.jsonl, line 1: " in output
    assert words in output
    assert "4 cells: 4 not submitted" in output
    assert "cells.jsonl, line 3: " in call("cancel")
    assert slurm.cancelled() == ["100_1", "100_3"]


def test_a_refused_submit_leaves_nothing_in_the_manifest(call, slurm, tmp_path):
    sbatch = slurm.folder / "bin" / "sbatch"
    program = sbatch.read_text()
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    assert "sbatch refuses the jobs: invalid partition" in call("submit", *CPU, status=1)
    manifest = tmp_path / "runs/queued/cells.jsonl"
    assert not manifest.exists()
    assert not list(tmp_path.glob("runs/queued/submissions/2*"))
    sbatch.write_text(program)
    call("submit", *CPU)
    assert len(manifest.read_text().splitlines()) == 4


def test_a_job_whose_other_cells_do_not_read_goes_on(call, slurm, tmp_path):
    call("submit", *CPU, "--seeds", 3, "--cells-per-job", 2)
    (file,) = tmp_path.glob("runs/queued/submissions/*/array-000.cells.jsonl")
    file.write_text("[]\n")
    assert "cancelled 3 cells" in call("cancel", "--seeds", 3, "--only", "arcface")
    assert slurm.cancelled() == ["100_2"]
