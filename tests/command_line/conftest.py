"""Running the real command in a real process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "marginbench.command_line"]


@pytest.fixture
def marginbench(tmp_path: Path):
    """Call the command in an empty folder: ``marginbench("run", "digits")``."""

    def call(*arguments: object, cwd: Path = tmp_path, **environment: str):
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
