"""Suites: named lists of cells, registered or found in a file. Nothing here imports torch."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from marginbench.errors import UserError
from marginbench.experiments.cells import Cell
from marginbench.experiments.search import Search
from marginbench.plugins.loading import (
    SUITES_GROUP,
    as_user_error,
    load_group,
    load_plugin_file,
    plugin_path,
)
from marginbench.plugins.parameters import resolve
from marginbench.plugins.registry import Registry, check_name
from marginbench.text import quoted

SuiteFunction = Callable[..., list[Cell]]
"""Takes the seeds; one with sizes also takes ``size``, by name."""

TUNED = "tuned"
"""How the folder of a suite's tuned runs ends: RUNS/SUITE-tuned."""
FULL = "full"
"""The size that every suite has."""
BASELINE = "softmax"
"""The baseline of a suite that does not name one."""
MOST_SEEDS = 10_000

Seeds = Annotated[int, Field(ge=1, le=MOST_SEEDS)]
"""How many seeds: a whole number from 1 to 10,000."""


@dataclass(frozen=True)
class Suite:
    """A named list of cells, and what its report must show.

    Attributes:
        name: what the command line calls it.
        description: one line.
        needs: what must be there to run it; one line.
        seeds: how many seeds it has unless ``--seeds`` says otherwise.
        baseline: the head that the others are compared with.
        sections: names of the report's sections; None for all.
        function: seeds → cells; with sizes, seeds and ``size`` → cells.
        sizes: the smaller sizes of the same experiment, each with its number of seeds: "small" is
            for two CPU cores.
        search: how `marginbench tune` searches it.
    """

    name: str
    description: str
    needs: str
    seeds: int
    baseline: str
    sections: tuple[str, ...] | None
    function: SuiteFunction
    sizes: Mapping[str, int] = field(default_factory=dict)
    search: Search = field(default_factory=Search)

    def cells(self, seeds: int | None = None, size: str = FULL) -> list[Cell]:
        """The suite's cells, as declared (not resolved).

        Args:
            seeds: how many; the size's own number if None.
            size: "full", or one of the suite's sizes.

        Raises:
            UserError: a number of seeds that is not allowed, a size that the suite does not
                have, its function raises, or it yields no cell, or something that is none.
        """
        own_seeds = {FULL: self.seeds, **self.sizes}
        if size not in own_seeds:
            raise UserError(
                f"suite {self.name!r}: size = {quoted(size)} is not allowed; allowed: "
                + ", ".join(own_seeds)
            )
        number = own_seeds[size] if seeds is None else seeds
        if not 1 <= number <= MOST_SEEDS:
            raise UserError(
                f"suite {self.name!r}: seeds = {quoted(number)} is not allowed; allowed: "
                f"1 to {MOST_SEEDS:,}"
            )
        # A suite that takes the seeds only has nothing to choose.
        chosen = {"size": size} if self.sizes else {}
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        file, line = (code.co_filename, code.co_firstlineno) if code else ("an object", None)
        with as_user_error(f"suite {self.name!r} in {file}", Path(file), line):
            made = self.function(list(range(number)), **chosen)
            if not isinstance(made, Iterable):
                raise UserError(f"it returns {quoted(made)}; allowed: a list of cells")
            cells = list(made)
        wrong = [value for value in cells if not isinstance(value, Cell)]
        if wrong:
            raise UserError(f"suite {self.name!r} yields {quoted(wrong[0])}, which is not a cell")
        if not cells:
            raise UserError(f"suite {self.name!r} has no cells")
        return cells


_registry: Registry[Suite] = Registry("suite", lambda: load_group(SUITES_GROUP))


def suite(
    name: str,
    *,
    description: str = "",
    needs: str = "nothing beyond the package",
    seeds: Seeds = 3,
    baseline: str = BASELINE,
    sections: Sequence[str] | None = None,
    sizes: Mapping[str, Seeds] | None = None,
    search: Search | None = None,
) -> Callable[[SuiteFunction], SuiteFunction]:
    """Function decorator: make a suite known. The function takes the seeds and returns cells.

    Args:
        name: what the command line calls it; for everything else see :class:`Suite`. A suite
            with ``sizes`` also takes ``size``: "full" or one of them.

    Raises:
        UserError: the name is taken or malformed, or a value is not allowed.
    """
    given = {
        "description": description,
        "needs": needs,
        "seeds": seeds,
        "baseline": baseline,
        "sections": sections,
        "sizes": sizes,
    }
    owner = f"suite {quoted(name)}"
    if search is not None and not isinstance(search, Search):
        raise UserError(f"{owner}: search = {quoted(search)} is not allowed; allowed: Search(...)")
    declared = resolve(owner, suite, given)
    del declared["search"]
    for size in declared["sizes"] or {}:
        check_name(f"{owner}: size", size)
        if size == TUNED:
            raise UserError(f"{owner}: size = {size!r} is not allowed: its tuned runs are there")
    declared["sizes"] = dict(declared["sizes"] or {})
    declared["sections"] = None if sections is None else tuple(declared["sections"])

    def add(function: SuiteFunction) -> SuiteFunction:
        entry = Suite(name, function=function, **declared, search=search or Search())
        _registry.add(name, entry, _registry.definition(function))
        return function

    return add


def suite_names() -> list[str]:
    """The names of all registered suites."""
    return _registry.names()


def find_suite(name: str) -> Suite:
    """The suite of that name, or the one that a file defines.

    Args:
        name: a registered name, or the path of a Python file with exactly one ``@suite``.

    Raises:
        UserError: no such suite or file; the file does not import, or has no or several suites.
    """
    if name.endswith(".py") or "/" in name:
        try:
            plugin_path(name, "suite file")
        except UserError as error:
            raise UserError(
                f"{error}; allowed: the path of a Python file with one @suite, or a suite's name "
                "as `marginbench suites` lists them"
            ) from None
        module = load_plugin_file(name, "suite file")
        # Not `names()`: a file need not wait for the installed packages' suites.
        own = [entry for _, entry in _registry if entry.function.__module__ == module.__name__]
        if len(own) != 1:
            found = ", ".join(entry.name for entry in own) or "none"
            raise UserError(
                f"suite file {quoted(name)}: exactly one @suite is needed, there is {found}"
                + ("; name the one you mean and give the file by --plugin" if own else "")
            )
        return own[0]
    # A name that can be no file's is the registry's to refuse.
    with contextlib.suppress(OSError, ValueError):
        if Path(f"{name}.py").is_file() and name not in _registry:
            raise UserError(f"unknown suite {name!r}; did you mean the file '{name}.py'?")
    return _registry.get(name)
