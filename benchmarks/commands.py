"""Commands that are run one after the other, and stopped so that they can go on."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence


def run_module(command: Sequence[str], deadline: float | None = None) -> int | None:
    """Run a module of Python, print its command first, and stop it when the time is over.

    What trains gets a SIGTERM, as from a cluster, and writes its checkpoint; so it does if this
    process gets one. Ctrl-C reaches it from the terminal. It is waited for each time.

    Args:
        command: the module and its arguments.
        deadline: by :func:`time.monotonic`; None for none.

    Returns:
        Its exit status; None if the time was over.

    Raises:
        KeyboardInterrupt: Ctrl-C, or a SIGTERM.
    """
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        return None
    print("+", shlex.join(command), flush=True)
    with subprocess.Popen([sys.executable, "-m", *command]) as process:

        def pass_on(*_: object) -> None:
            process.terminate()
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, pass_on)
        try:
            return process.wait(left)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return None
        except KeyboardInterrupt:
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
