"""Run folders: the state is what the files say, and damage is a state that names its file."""

import json
import math
import shutil
import zipfile

import numpy as np
import pytest

from marginbench.errors import DamagedFile, UserError
from marginbench.files import write_atomically
from marginbench.runs.cell_status import State
from marginbench.runs.results import evaluation
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import open_suite
from tests.conftest import tiny_cell, train_cell
from tests.runs.made_runs import write_run


@pytest.fixture
def done(tmp_path):
    _, folder = train_cell(tiny_cell(), tmp_path)
    return folder


def test_nothing_there_is_not_started(tmp_path):
    assert RunFolder(tmp_path, tiny_cell()).status().state == State.NOT_STARTED


def test_a_finished_cell_is_done(done):
    assert done.status().state == State.DONE
    assert done.status().result["key"] == done.key


def test_the_seconds_of_earlier_runs_are_read_by_their_old_name(done):
    path = done.path / "environment.json"
    environment = json.loads(path.read_text())
    old = {name.replace("_attempt", "_try"): value for name, value in environment.items()}
    assert {"seconds_of_last_try", "processor_seconds_of_last_try"} <= old.keys()
    path.write_text(json.dumps(old))
    assert done.read_environment() == environment


DAMAGE = {
    "cell.json": ["", "{", "[]", '{"seed": "x"}', b"\xff\xfe"],
    "result.json": ["", "{", "[]", "{}", b"\xff"],
    "history.jsonl": ["{", '{"iteration": 6}\n', "", b"\xff"],
    "evaluation.npz": ["", "PK"],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, c) for name, contents in DAMAGE.items() for c in contents]
)
def test_damage_is_a_state_and_names_the_file(done, name, content):
    path = done.path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    status = done.status()
    assert status.state == State.DAMAGED
    assert str(path) in status.message


def write_part(file, compression):
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("class_cosine.npy", b"no array")


EVALUATIONS = {
    "an array that is no archive": lambda file: np.save(file, np.zeros(3)),
    "another way to pack": lambda file: write_part(file, zipfile.ZIP_BZIP2),
}
ARRAYS = {
    "objects": lambda file: np.savez(file, class_cosine=np.array([None])),
    "no array": lambda file: write_part(file, zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("damage", EVALUATIONS)
def test_a_damaged_evaluation_is_a_state(done, damage):
    with done.evaluation.open("wb") as file:
        EVALUATIONS[damage](file)
    status = done.status()
    assert status.state == State.DAMAGED
    assert f"{done.evaluation} is damaged: " in status.message


@pytest.mark.parametrize("damage", EVALUATIONS | ARRAYS)
def test_a_damaged_evaluation_is_named_by_who_reads_it(done, damage):
    with done.evaluation.open("wb") as file:
        (EVALUATIONS | ARRAYS)[damage](file)
    with pytest.raises(DamagedFile, match=r"evaluation\.npz is damaged: "):
        evaluation(done.path)


@pytest.mark.parametrize("name", ["cell.json", "history.jsonl", "evaluation.npz"])
def test_a_missing_file_of_a_finished_cell_is_damage(done, name):
    (done.path / name).unlink()
    status = done.status()
    assert status.state == State.DAMAGED
    assert name in status.message


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("outcome", "great", "outcome = 'great'"),
        ("test_error", 7, "test_error = 7"),
        ("test_error", None, "test_error = None"),
        ("key", "000000000000", "000000000000"),
    ],
)
def test_a_result_that_cannot_be_is_damage(done, field, value, word):
    path = done.path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert word in done.status().message


def test_a_folder_of_another_cell_is_refused(done):
    other = RunFolder(done.path.parent, tiny_cell(seed=1))
    other.path.mkdir()
    (other.path / "cell.json").write_bytes((done.path / "cell.json").read_bytes())
    with pytest.raises(DamagedFile, match=done.key):
        other.create()


def test_a_failure_is_reported_and_forgotten_after_success(done):
    done.write_failure("it broke", "trace")
    (done.path / "result.json").unlink()
    assert done.status().state == State.FAILED
    assert done.status().message == "it broke"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file):
        file.write(b"half of the n")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_not_finite_becomes_null_however_deep_it_lies(done):
    entry = {"accuracy": math.nan, "by_dimension": [(1, 0.5), (2, math.inf)], "pairs": 3}
    done.write_result(done.read_result() | {"by_head": [entry], "verification_accuracy": -math.inf})
    result = done.read_result()
    assert result["by_head"] == [
        {"accuracy": None, "by_dimension": [[1, 0.5], [2, None]], "pairs": 3}
    ]
    assert result["verification_accuracy"] is None


def test_a_result_set_aside_comes_back_unless_there_is_a_new_one(tmp_path):
    _, folder = train_cell(tiny_cell(), tmp_path)
    result = folder.read_result()
    folder.set_result_aside()
    assert folder.status().state == State.STOPPED
    folder.put_result_back()
    assert folder.read_result() == result
    folder.set_result_aside()
    folder.write_result(result | {"remarks": ["new"]})
    folder.put_result_back()
    assert folder.read_result()["remarks"] == ["new"]


def test_a_result_that_cannot_be_set_aside_is_reported_in_one_line(tmp_path):
    _, folder = train_cell(tiny_cell(), tmp_path)
    (folder.path / "result-of-other-code.json").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        folder.set_result_aside()
    assert folder.read_result() is not None


def test_two_runs_folders_are_merged_by_copying_their_run_folders(tiny_suite, tmp_path):
    here, there = (open_suite(str(tiny_suite), tmp_path / name) for name in ("here", "there"))
    write_run(here.runs[0], 0.1)
    write_run(there.runs[1], 0.2)
    there.record()
    shutil.copytree(there.runs[1].path, here.folder / there.runs[1].path.name)
    merged = open_suite(str(tiny_suite), tmp_path / "here")
    assert [run.status().state for run in merged.runs] == ["done", "done", *["not started"] * 2]
    assert merged.runs[1].read_result() == there.runs[1].read_result()
