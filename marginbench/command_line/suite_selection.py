"""SUITE and the options that say which of its cells, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marginbench.errors import UserError

if TYPE_CHECKING:
    from marginbench.experiments.cells import Cell
    from marginbench.runs.seed_plan import SeedPlan
    from marginbench.runs.suite_runs import SuiteRun
    from marginbench.runs.tuned_runs import TunedRun


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
        tuned: whether the suite's search is meant, with its final runs, and not its own cells.
        trials, repeats: of a search; None for the last ones, or the suite's.
    """

    suite: str
    runs: Path
    seeds: int | None
    size: str
    only: tuple[str, ...]
    more_heads: tuple[str, ...]
    tuned: bool = False
    trials: int | None = None
    repeats: int | None = None

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> SuiteSelection:
        """Out of a command's options, which keep the others."""
        names = [field.name for field in fields(cls) if field.name in options]
        return cls(**{name: options.pop(name) for name in names})

    def open(
        self,
        *,
        gone_heads: bool = False,
        to_be_resolved: Callable[[list[Cell]], object] = lambda cells: None,
    ) -> SuiteRun:
        """The cells; see :func:`marginbench.runs.suite_runs.open_suite`.

        With ``tuned``, those of the search as it was last asked for.

        Args:
            gone_heads: whether ``only`` may name heads that have left the suite.
            to_be_resolved: see there.

        Raises:
            UserError: see there, or seeds or further heads of a search that is there already.
        """
        if self.tuned:
            if self.seeds is not None or self.more_heads:
                raise UserError(
                    "--seeds and --head are not allowed with --tuned here, as the search that is "
                    "there has its own; allowed: in `marginbench tune` and `submit --tuned`"
                )
            from marginbench.runs.open_tuned import reopen_tuned

            return reopen_tuned(self.suite, self.runs, size=self.size, only=self.only)
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

    def open_search(self, plan: SeedPlan | None = None) -> TunedRun:
        """The search, planned anew; see :func:`marginbench.runs.open_tuned.open_tuned`."""
        from marginbench.runs.open_tuned import open_tuned

        return open_tuned(
            self.suite,
            self.runs,
            trials=self.trials,
            repeats=self.repeats,
            seeds=self.seeds,
            size=self.size,
            only=self.only,
            more_heads=self.more_heads,
            plan=plan,
        )
