"""The project's own environment variables: where data, runs and caches are, and how to train."""

from __future__ import annotations

import os
import re

from marginbench.data.files.paths import cache_folder, data_root
from marginbench.errors import UserError
from marginbench.text import quoted

PREFIX = "MARGINBENCH_"
LIMIT_VARIABLE = "MARGINBENCH_RESIDENT_BYTES"
"""Bytes of images that may lie on the device."""
GRAPH_VARIABLE = "MARGINBENCH_CUDA_GRAPH"
_ALLOWED = {
    LIMIT_VARIABLE: (re.compile("[0-9]{1,18}"), "integer from 0 to below 10^18"),
    GRAPH_VARIABLE: (re.compile("[01]"), "0 or 1"),
}


def own_environment() -> dict[str, str]:
    """Those that are set now, with their values."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def check_environment() -> None:
    """Make sure that what training reads of the environment is allowed, before any training.

    Raises:
        UserError: a value is not; the message names each such variable.
    """
    data_root(), cache_folder()
    refused = [
        f"{name} = {quoted(os.environ[name])} is not allowed; allowed: {allowed}"
        for name, (pattern, allowed) in _ALLOWED.items()
        if name in os.environ and not pattern.fullmatch(os.environ[name])
    ]
    if refused:
        raise UserError("; ".join(refused))


def resident_bytes() -> int | None:
    """How many bytes of images may lie on a device; None if it is not set.

    Raises:
        UserError: see :func:`check_environment`.
    """
    check_environment()
    given = os.environ.get(LIMIT_VARIABLE)
    return None if given is None else int(given)
