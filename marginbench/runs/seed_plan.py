"""When a suite that runs until it is decided looks at its results, and what each look may spend.

Testing again and again until p < 0.05 makes false claims. Here the looks are planned ahead, and
each has a share of the level of its own: a spending function (Lan, DeMets, Biometrika, 1983) says
how much of the level may be used up after a fraction of the seeds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from marginbench.errors import DamagedFile, UserError
from marginbench.files import write_text_atomically
from marginbench.runs.run_files import as_json, read_sealed, sealed
from marginbench.text import quoted

PLAN = "until-decided.json"
LOOKS = (5, 8, 12, 18, 30, 50, 80)
"""Seeds at which results are looked at, as far as they are fewer than the most."""
MAX_SEEDS = 30
FEWEST_SEEDS, MOST_SEEDS = 5, 10_000
"""At a look."""
_NORMAL = NormalDist()


def obrien_fleming(fraction: float, level: float) -> float:
    """The level spent after a fraction of the seeds, in O'Brien and Fleming's shape: late."""
    if fraction <= 0:
        return 0.0
    z = _NORMAL.inv_cdf(1 - level / 2)
    return 2 * (1 - _NORMAL.cdf(z / math.sqrt(min(fraction, 1.0))))


def pocock(fraction: float, level: float) -> float:
    """The level spent after a fraction of the seeds, in Pocock's shape: nearly evenly."""
    return level * math.log(1 + (math.e - 1) * min(max(fraction, 0.0), 1.0))


SPENDING: Mapping[str, Callable[[float, float], float]] = {
    "obrien-fleming": obrien_fleming,
    "pocock": pocock,
}


@dataclass(frozen=True)
class SeedPlan:
    """The looks of a suite that is run until it is decided.

    Attributes:
        max_seeds: at the last look; at least 5.
        spending: name of the spending function.
        first_look: seeds at the first look, at least 5; the last one may come before it.
    """

    max_seeds: int = MAX_SEEDS
    spending: str = "obrien-fleming"
    first_look: int = LOOKS[0]

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds, rising by a quarter or more, the last ``max_seeds``."""
        after = [n for n in LOOKS if 4 * n >= 5 * self.first_look]
        before = [n for n in (self.first_look, *after) if 5 * n <= 4 * self.max_seeds]
        return (*before, self.max_seeds)

    def levels(self, level: float) -> tuple[float, ...]:
        """What each look may spend; the sum is ``level``."""
        spent = SPENDING[self.spending]
        upto = [spent(n / self.max_seeds, level) for n in self.looks]
        return tuple(now - before for before, now in zip([0.0, *upto], upto, strict=False))


def read_plan(suite_folder: Path) -> SeedPlan | None:
    """The plan that a suite was begun with; None without one.

    Raises:
        UserError: the file is damaged; the message says that the looks are not known without it.
    """
    path = suite_folder / PLAN
    if not os.path.lexists(path):
        return None
    try:
        content: dict[str, Any] = read_sealed(path, must=False)
    except DamagedFile as error:
        raise UserError(str(error)) from None
    seeds = {"max_seeds": content.get("max_seeds"), "first_look": content.get("first_look", 5)}
    for name, value in seeds.items():
        if type(value) is not int or not FEWEST_SEEDS <= value <= MOST_SEEDS:
            raise UserError(
                f"{path}: {name} = {quoted(value)} is not allowed; allowed: a whole number from "
                f"{FEWEST_SEEDS} to {MOST_SEEDS:,}"
            )
    spending = str(content.get("spending"))
    if spending not in SPENDING:
        raise UserError(
            f"{path}: spending = {quoted(spending)} is not allowed; allowed: {', '.join(SPENDING)}"
        )
    return SeedPlan(**seeds, spending=spending)


def begin_plan(suite_folder: Path, max_seeds: int | None, own_seeds: int) -> SeedPlan:
    """The suite's plan: the one it was begun with, or a new one, which is not written.

    Args:
        suite_folder: ``RUNS/SUITE``.
        max_seeds: as asked for; None for the plan's own, or 30.
        own_seeds: those of the suite without a plan: the first look of a new one, if 5 or more.

    Raises:
        UserError: another number than the plan's: the looks must not depend on what was seen.
    """
    known = read_plan(suite_folder)
    if known is None:
        return SeedPlan(max_seeds or MAX_SEEDS, first_look=max(own_seeds, FEWEST_SEEDS))
    if max_seeds not in (None, known.max_seeds):
        raise UserError(
            f"--max-seeds {max_seeds} is not allowed: {suite_folder / PLAN} plans "
            f"{known.max_seeds}, and looks that are planned after results were seen keep no "
            "promise; give another folder with --runs, or leave --max-seeds out"
        )
    return known


def keep_plan(suite_folder: Path, plan: SeedPlan) -> None:
    """Write the plan, so that every later command counts its looks.

    Raises:
        OSError: it cannot be written.
    """
    content = {**asdict(plan), "looks": plan.looks}
    write_text_atomically(suite_folder / PLAN, as_json(sealed(content), indent=2))
