"""What failed blocks and killed writers leave goes; what others made stays."""

import os

import pytest

from marginbench.files import (
    no_empty_folders_on_error,
    remove_temporaries,
    temporary_beside,
)
from marginbench.reporting.report_state import forget


def fail_after_making(folder, *files):
    with no_empty_folders_on_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            file.touch()
        raise KeyError


def test_what_a_failed_block_made_and_left_empty_goes(tmp_path):
    with pytest.raises(KeyError):
        fail_after_making(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_or_is_not_empty_stays(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyError):
        fail_after_making(tmp_path / "empty")
    with pytest.raises(KeyError):
        fail_after_making(tmp_path / "full" / "empty", tmp_path / "full" / "file")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file", "full"]


def test_a_block_that_works_keeps_its_folders(tmp_path):
    with no_empty_folders_on_error(tmp_path / "a"):
        (tmp_path / "a").mkdir()
    assert (tmp_path / "a").is_dir()


def test_temporaries_of_a_living_writer_stay_where_others_write_too(tmp_path):
    old, new = (temporary_beside(tmp_path / "index.html") for _ in range(2))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == [new]
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_temporaries(tmp_path / "not there")
