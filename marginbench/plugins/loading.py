"""Finding what plug-ins offer: entry points of installed packages, and a user's own files.

The project's own heads, suites and sections are found through the same entry points as a
another package's; the engine imports none of them by name.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

from pydantic import ValidationError

from marginbench.errors import UserError
from marginbench.plugins.entry_points import entry_points_of
from marginbench.text import quoted

HEADS_GROUP = "marginbench.heads"
SUITES_GROUP = "marginbench.suites"
REPORTS_GROUP = "marginbench.reports"
REGULARISERS_GROUP = "marginbench.regularisers"


@cache
def load_group(group: str) -> None:
    """Import every entry point of a group, once; importing registers what it defines.

    A package whose entry point does not import is named in a warning and costs only itself.

    Raises:
        UserError: an entry point registers a name that is taken.
    """
    for entry_point in entry_points_of(group):
        try:
            entry_point.load()
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            package = entry_point.dist.name if entry_point.dist else "unknown"
            warnings.warn(
                f"plug-in {entry_point.name!r} of package {package!r} ({entry_point.value}) does "
                f"not import and is left out: {one_line(error)}",
                stacklevel=2,
            )


_plugin_files: dict[Path, ModuleType] = {}


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Runs the file's text as it stands now; no bytecode is kept beside it.

    Python takes kept bytecode for the file's if second of change and size are the same: m = 2 made
    m = 3 twice in a second, or copied with an old time, would go on as m = 2.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_plugin_file(path: str | Path, what: str = "plug-in file") -> ModuleType:
    """Import a user's own Python file; what it registers is there afterwards.

    Args:
        path: the file. Loading the same file again returns the module that is there.
        what: what the user takes it for, for messages.

    Raises:
        UserError: no such file, not a Python file, or it does not import (the message names the
            file, the line and the error).
    """
    file = plugin_path(path, what)
    if file in _plugin_files:
        return _plugin_files[file]
    digest = hashlib.sha256(str(file).encode(errors="surrogateescape")).hexdigest()[:8]
    name = f"marginbench_plugin_{file.stem}_{digest}"
    loader = _SourceLoader(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None or spec.loader is None:
        raise UserError(f"{what} {quoted(str(path))}: Python cannot import it")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs, so that classes of the file can be pickled and inspected.
    sys.modules[name] = module
    try:
        with as_user_error(f"{what} {quoted(str(path))}", file):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _plugin_files[file] = module
    return module


def plugin_path(path: str | Path, what: str = "plug-in file") -> Path:
    """The absolute path of a user's own Python file, links followed.

    Args:
        path: as typed; ``~`` is the home directory.
        what: see :func:`load_plugin_file`.

    Raises:
        UserError: there is no such file, or its name does not end in ``.py``.
    """
    owner = f"{what} {quoted(str(path))}"
    try:
        file = Path(path).expanduser().resolve()
        there = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        # Too long a name, a loop of links, an unknown user's home, a null character.
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{owner}: no such file ({reason})") from None
    if not there:
        raise UserError(f"{owner}: no such file")
    if file.suffix != ".py":
        raise UserError(f"{owner}: a Python file (.py) is needed")
    return file


def loaded_plugin_files() -> list[Path]:
    """The plug-in files loaded so far, so that worker processes can load the same."""
    return list(_plugin_files)


@contextlib.contextmanager
def as_user_error(owner: str, file: Path, line: int | None = None) -> Iterator[None]:
    """A block that runs a plug-in's code: whatever goes wrong there becomes one line of text.

    Args:
        owner: whose code it is, for the message ("plug-in file 'mine.py'").
        file: where that code is.
        line: of the definition; named if the error has no line of its own in the file.

    Raises:
        UserError: the code raised something, or would have ended the program.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        number = _line_in(file, error) or line
        where = owner if number is None else f"{owner}, line {number}"
        raise UserError(f"{where}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """An error in one line: what kind it is, and its message; of a UserError the message alone."""
    if isinstance(error, SystemExit):
        return f"it ends the program (SystemExit: {quoted(error.code)}); a plug-in must not"
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{error.title}: {'.'.join(map(str, detail['loc']))} = {quoted(detail['input'])} is "
            f"not allowed: {detail['msg']}"
            for detail in error.errors()
        )
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = ""
    if isinstance(error, UserError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _line_in(file: Path, error: BaseException) -> int | None:
    """The last line of the file on the way to the error."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno
    lines = [
        number
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == str(file)
    ]
    return lines[-1] if lines else None
