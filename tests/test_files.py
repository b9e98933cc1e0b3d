"""What failed blocks and killed writers leave goes; what others made stays."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from marginbench.errors import UserError
from marginbench.files import (
    no_empty_folders_on_error,
    output_file,
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


def write_output(path, text="new"):
    with output_file(path) as temporary:
        temporary.write_text(text)


def test_an_output_file_has_the_umasks_mode_and_replaces_the_earlier_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    before = os.umask(0o027)
    try:
        write_output(path)
    finally:
        os.umask(before)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_file_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_output(tmp_path / "link")
    write_output(tmp_path / "link", "newer")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "newer"


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link to a device", "a link to itself"])
def test_what_is_no_file_is_never_replaced(kind, tmp_path):
    path = tmp_path / "odd"
    ODD[kind](path)
    before = path.lstat().st_ino
    with pytest.raises(UserError, match=r"odd' cannot be written: it is not a file"):
        write_output(path)
    assert path.lstat().st_ino == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("below", ["missing/file", "a-file/file", "x" * 300])
def test_an_output_file_that_cannot_be_made_is_refused_in_a_line(below, tmp_path):
    (tmp_path / "a-file").touch()
    with pytest.raises(UserError, match=r"cannot be written: (No such|Not a dir|File name too)"):
        write_output(tmp_path / below)


@pytest.mark.parametrize("how", ["disk", "error"])
def test_a_failed_writer_leaves_the_earlier_file(how, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    error = OSError(errno.ENOSPC, "No space left on device") if how == "disk" else KeyError()

    def write():
        with output_file(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(UserError if how == "disk" else KeyError):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
