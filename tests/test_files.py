"""What failed blocks and killed writers leave goes; what others made stays."""

import os
import socket
from pathlib import Path

import pytest

from marginbench.files import (
    no_empty_folders_on_error,
    read_regular,
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


ODD = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a pipe": lambda path: (os.mkfifo(f"{path}-p"), path.symlink_to(f"{path}-p")),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "a terabyte": lambda path: (path.touch(), os.truncate(path, 2**40)),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_or_too_large_is_neither_waited_for_nor_read(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ODD[kind](Path("odd"))
    with pytest.raises(OSError, match="odd") as refused:
        read_regular(Path("odd"))
    assert refused.value.strerror


def test_a_file_is_read_to_its_last_byte_and_no_further(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes; allowed: at most 4"):
        read_regular(path, 4)
