"""Folders that a failed block made, and those that were there before."""

import pytest

from marginbench.atomic_files import no_empty_folders_on_error


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
