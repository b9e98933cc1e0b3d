"""Whether a node can train: checked in the job's script, and by the job before its first cell."""

from __future__ import annotations

import importlib
import platform
import shlex
import socket
import sys
from collections.abc import Sequence

from marginbench.experiments.cells import Cell
from marginbench.runs.deciding_code import libraries_of_parts

# What a job's script writes before its line of why the node cannot be used.
NODE_ERROR = "marginbench: "


def check_python(command: Sequence[str] = ()) -> list[str]:
    """Shell lines that leave one line in the job's output if our Python cannot work on the node.

    Where none of our code runs, there is no other message: ``status`` shows this line.

    Args:
        command: that starts Python, whatever its version; () for this Python.
    """
    python = shlex.join(command or [sys.executable])
    version = ".".join(map(str, sys.version_info[:2]))
    check = "import submitit, marginbench.dispatch.slurm.job"
    if not command:
        check = (
            'import sys; version = ".".join(map(str, sys.version_info[:2])); '
            f'version == "{version}" or '
            f'sys.exit("it is Python " + version + ", the submission was made with {version}"); '
            + check
        )
    return [
        # Python would first look in the folder that the job was submitted from, where a user's
        # queue.py or another clone of this project would be taken for the module of this name.
        "export PYTHONSAFEPATH=1",
        # The last line is what a traceback ends with, or the shell's own complaint.
        f"if ! problem=$({python} -c {shlex.quote(check)} 2>&1); then",
        f'  echo "{NODE_ERROR}$(hostname): "{python}": ${{problem##*$\'\n\'}}" >&2'.replace(
            "\n", r"\n"
        ),
        "  exit 1",
        "fi",
    ]


def node_problem(python: str | None, cells: list[Cell]) -> str | None:
    """Why these cells cannot be trained on this node, in one line, or None.

    ``python`` is the version that it must have, "3.12"; None for any.
    """
    here = ".".join(platform.python_version_tuple()[:2])
    if python is not None and here != python:
        return (
            f"{socket.gethostname()} runs Python {here} ({sys.executable}); "
            f"the submission was made with Python {python}"
        )
    try:
        # Imported once, here: the cells' processes are forked off with torch loaded.
        import marginbench.dispatch.worker_preload  # noqa: F401

        for library in libraries_of_parts(cells):
            importlib.import_module(library)
    except Exception as error:
        return f"{socket.gethostname()}: {type(error).__name__}: {error}".splitlines()[0]
    return None
