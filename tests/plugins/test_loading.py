"""Plug-in files: what runs is what stands in the file."""

import os
import py_compile
import sys

from marginbench.plugins.loading import load_plugin_file


def test_a_file_changed_within_a_second_is_not_run_from_old_bytecode(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    file.write_text("M = 2\n")
    moment = (1_700_000_000, 1_700_000_000)
    os.utime(file, moment)
    py_compile.compile(str(file))
    file.write_text("M = 3\n")
    os.utime(file, moment)
    assert load_plugin_file(file).M == 3


def test_no_bytecode_is_left_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    file.write_text("M = 2\n")
    assert load_plugin_file(file).M == 2
    assert list(tmp_path.iterdir()) == [file]
