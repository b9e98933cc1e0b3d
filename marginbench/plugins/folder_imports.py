"""Importing every module of a plug-in folder, so that a new file there is found by itself."""

from __future__ import annotations

import importlib
import pkgutil


def import_all_modules(package_name: str) -> None:
    """Import each module directly in a package; importing registers what it defines.

    Args:
        package_name: its dotted name.
    """
    package = importlib.import_module(package_name)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package_name}.{module.name}")
