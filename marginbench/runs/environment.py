"""The project's own environment variables: where data, runs and caches are."""

from __future__ import annotations

import os

PREFIX = "MARGINBENCH_"


def own_environment() -> dict[str, str]:
    """Those that are set now, with their values."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
