"""SUITE and the options that say which of its cells, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marginbench.experiments.cells import Cell
    from marginbench.runs.suite_runs import SuiteRun


@dataclass(frozen=True)
class SuiteSelection:
    """What :mod:`marginbench.command_line.suite_options` reads.

    Attributes:
        suite: name of the suite, or the path of its file.
        runs: where the run folders are.
        seeds: how many; None for the suite's own number.
        size: of the suite.
        only: names of heads; none for all.
        more_heads: further heads for every comparison.
    """

    suite: str
    runs: Path
    seeds: int | None
    size: str
    only: tuple[str, ...]
    more_heads: tuple[str, ...]

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> SuiteSelection:
        """Out of a command's options, which keep the others."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})

    def open(
        self,
        *,
        gone_heads: bool = False,
        to_be_resolved: Callable[[list[Cell]], object] = lambda cells: None,
    ) -> SuiteRun:
        """The cells; see :func:`marginbench.runs.suite_runs.open_suite`.

        Args:
            gone_heads: whether ``only`` may name heads that have left the suite.
            to_be_resolved: see there.
        """
        from marginbench.runs.suite_runs import open_suite

        return open_suite(
            self.suite,
            self.runs,
            seeds=self.seeds,
            size=self.size,
            only=self.only,
            more_heads=self.more_heads,
            gone_heads=gone_heads,
            to_be_resolved=to_be_resolved,
        )
