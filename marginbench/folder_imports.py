"""Importing every module of a plug-in folder, so that a new file there is found by itself."""

from __future__ import annotations

import importlib
import pkgutil


def import_all_modules(package_name: str, package_path: list[str]) -> None:
    """Import each module directly in a package; importing registers what it defines.

    Args:
        package_name: the package's ``__name__``.
        package_path: the package's ``__path__``.
    """
    for module in pkgutil.iter_modules(package_path):
        importlib.import_module(f"{package_name}.{module.name}")
