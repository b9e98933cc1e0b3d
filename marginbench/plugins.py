"""Finding what plug-ins offer: entry points of installed packages, and a user's own files.

The project's own heads, suites and sections are found through the same entry points as a
stranger's; the engine imports none of them by name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
import warnings
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from marginbench.errors import UserError

HEADS_GROUP = "marginbench.heads"
SUITES_GROUP = "marginbench.suites"
REPORTS_GROUP = "marginbench.reports"


@cache
def load_group(group: str) -> None:
    """Import every entry point of a group, once; importing registers what it defines.

    A package whose entry point does not import is named in a warning and costs only itself.

    Raises:
        UserError: an entry point registers a name that is taken.
    """
    for entry_point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            entry_point.load()
        except UserError:
            raise
        except Exception as error:
            package = entry_point.dist.name if entry_point.dist else "unknown"
            warnings.warn(
                f"plug-in {entry_point.name!r} of package {package!r} ({entry_point.value}) does "
                f"not import and is left out: {type(error).__name__}: {error}",
                stacklevel=2,
            )


_plugin_files: dict[Path, ModuleType] = {}


def load_plugin_file(path: str | Path, what: str = "plug-in file") -> ModuleType:
    """Import a user's own Python file; what it registers is there afterwards.

    Args:
        path: the file. Loading the same file again returns the module that is there.
        what: what the user takes it for, for messages.

    Raises:
        UserError: no such file, not a Python file, or it does not import (the message names the
            file, the line and the error).
    """
    file = Path(path).expanduser().resolve()
    if file in _plugin_files:
        return _plugin_files[file]
    if not file.is_file():
        raise UserError(f"{what} {str(path)!r}: no such file")
    if file.suffix != ".py":
        raise UserError(f"{what} {str(path)!r}: a Python file (.py) is needed")
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"marginbench_plugin_{file.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{what} {str(path)!r}: Python cannot import it")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs, so that classes of the file can be pickled and inspected.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        del sys.modules[name]
        raise UserError(f"{what} {str(path)!r}: {error}") from error
    except Exception as error:
        del sys.modules[name]
        raise UserError(
            f"{what} {str(path)!r} does not import: "
            f"{_line_in(file, error)}{type(error).__name__}: {error}"
        ) from error
    _plugin_files[file] = module
    return module


def loaded_plugin_files() -> list[Path]:
    """The plug-in files loaded so far, so that worker processes can load the same."""
    return list(_plugin_files)


def _line_in(file: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: " if error.lineno else ""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == file
    ]
    return f"line {lines[-1]}: " if lines else ""
