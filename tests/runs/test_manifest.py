"""The manifest: every cell that was ever run or submitted, and what its parts were resolved to."""

import json
import os
from pathlib import Path

import pytest

from marginbench.errors import UserError
from marginbench.runs import manifest
from marginbench.runs.manifest import (
    keep_resolution,
    known_resolver,
    record_cells,
    recorded_cells,
    recorded_keys,
)
from marginbench.runs.run_files import sealed
from marginbench.runs.suite_runs import open_suite


@pytest.fixture
def suite_run(tiny_suite, tmp_path):
    return open_suite(str(tiny_suite), tmp_path)


def keys(runs):
    return [run.key for run in runs]


def test_cells_are_recorded_once_and_read_back(suite_run):
    folder, runs = suite_run.folder, suite_run.runs
    record_cells(folder, runs[:3])
    record_cells(folder, runs[1:])
    found, unread = recorded_cells(folder, set())
    assert keys(found) == keys(runs)
    assert [run.cell.to_json() for run in found] == [run.cell.to_json() for run in runs]
    assert unread == []
    assert keys(recorded_cells(folder, {runs[0].key})[0]) == keys(runs[1:])
    assert len((folder / "cells.jsonl").read_text().splitlines()) == 4


def test_a_line_that_a_killed_process_began_costs_itself_alone(suite_run):
    folder, runs = suite_run.folder, suite_run.runs
    record_cells(folder, runs[:2])
    file = folder / "cells.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    record_cells(folder, runs)
    found, unread = recorded_cells(folder, set())
    assert sorted(keys(found)) == sorted(keys(runs))
    assert len(unread) == 1
    assert f"{file}, line 2: " in unread[0]


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_in_its_place_is_named_and_neither_read_nor_written(put, suite_run):
    file = suite_run.folder / "cells.jsonl"
    file.parent.mkdir(parents=True)
    put(file)
    named = f"{file} cannot be read: it is not a file"
    assert recorded_cells(suite_run.folder, set()) == ([], [named])
    assert recorded_keys(suite_run.folder) == set()
    with pytest.raises(UserError, match="cannot be written: it is not a file"):
        suite_run.record()


def test_a_resolution_that_was_changed_is_made_anew(suite_run):
    # A parameter that is changed there would be trained under another cell's name.
    folder = suite_run.folder
    folder.mkdir(parents=True)
    keep_resolution(folder, suite_run.resolver)
    file = folder / "resolution.json"
    text = file.read_text()
    assert '"widths": [4]' in text
    file.write_text(text.replace('"widths": [4]', '"widths": [8]'))
    assert known_resolver(folder).found() == {}


def test_what_was_resolved_is_known_again_as_long_as_the_code_is_the_same(suite_run, monkeypatch):
    folder = suite_run.folder
    folder.mkdir(parents=True)
    keep_resolution(folder, suite_run.resolver)
    assert known_resolver(folder).found() == suite_run.resolver.found() != {}
    monkeypatch.setattr(manifest, "code_version", lambda: {"files": {"losses/softmax.py": "0"}})
    assert known_resolver(folder).found() == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"code": 1, "parts": 3}', '{"parts": {"x": [{}]}}']
)
def test_a_damaged_resolution_is_made_anew(suite_run, text):
    folder = suite_run.folder
    folder.mkdir(parents=True)
    (folder / "resolution.json").write_text(text)
    assert known_resolver(folder).found() == {}
    keep_resolution(folder, suite_run.resolver)
    assert known_resolver(folder).found() == suite_run.resolver.found()


@pytest.mark.parametrize("parts", ["3", '{"x": [{}]}', '{"x": 3}', "[1]"])
def test_resolved_parts_of_the_wrong_form_are_made_anew(suite_run, parts):
    folder = suite_run.folder
    folder.mkdir(parents=True)
    keep_resolution(folder, suite_run.resolver)
    file = folder / "resolution.json"
    code = json.loads(file.read_text())["code"]
    file.write_text(json.dumps(sealed({"code": code, "parts": json.loads(parts)})))
    assert known_resolver(folder).found() == {}
