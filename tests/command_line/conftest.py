"""Calling the command: in this process where that is enough, in one of its own where it is not."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from marginbench.command_line import main

COMMAND = [sys.executable, "-m", "marginbench.command_line"]


def hear_ctrl_c():
    """In a new process, before it becomes the command: a shell's background jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def marginbench(tmp_path: Path, monkeypatch, capsys):
    """Call the command in an empty folder: ``marginbench("run", "digits")``.

    In this process, which has torch loaded already; the cells are trained in workers all the same.
    """

    def call(*arguments: object) -> Done:
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments], prog_name="marginbench")
        out, err = capsys.readouterr()
        return Done(ended.value.code or 0, out, err)

    return call


@pytest.fixture
def marginbench_process(tmp_path: Path):
    """The same in a process of its own, with environment variables to choose."""

    def call(
        *arguments: object, cwd: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call


@pytest.fixture
def record_suite(tmp_path: Path):
    """Write a suite's manifest below ``runs``, in a process that has loaded no other plug-in."""

    def call(suite: Path) -> None:
        code = (
            "import sys\nfrom pathlib import Path\n"
            "from marginbench.runs.suite_runs import open_suite\n"
            "open_suite(sys.argv[1], Path('runs')).record()"
        )
        subprocess.run([sys.executable, "-c", code, str(suite)], cwd=tmp_path, check=True)

    return call
