"""The paper's Tables 2 to 4 and Figs. 2, 6 and 7 in full, within a number of minutes.

    make paper MINUTES=40

First the runs, in the order of what they tell: all tables and figures with one seed, then with
three, then with the five of the suites, then the heads beyond the paper. When their minutes are
over, what runs writes its checkpoint; the same command continues from RUNS. Then each suite that
has a whole seed gets its page in the target folder. The last fifth of the minutes goes to the tests
of the CUDA path and to ``benchmarks.speed``; a test that fails is reported and ends nothing.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from marginbench.errors import UserError
from marginbench.experiments.suites import FULL
from marginbench.runs.cell_status import FINISHED
from marginbench.runs.results import results_of
from marginbench.runs.suite_runs import open_suite
from marginbench.text import count, duration

from .commands import run_module
from .publish import PUBLISHED, publish

PAPER_HEADS = {
    "mnist": "softmax,hinge,l-softmax",
    "cifar100": "softmax,hinge,l-softmax",
    "cifar10": "softmax,hinge,l-softmax",
    "cifar10+": "softmax,hinge,l-softmax",
    "fig6": "softmax,l-softmax",
    "fig7": "l-softmax",
    "fig2": "softmax,l-softmax",
}
"""The paper's heads of each suite, the tables first; CIFAR-10's images must be fetched."""
SEEDS = (1, 3, 5)
FOR_THE_PAGES = 0.05
"""The share of the minutes for the pages."""
FOR_CHECKS_AND_SPEED = 0.2
"""The share of the minutes for the tests of the CUDA path and the speed."""
CHECKS = "tests/training/test_cuda.py"


@dataclass(frozen=True)
class Stage:
    """A part of a suite that is run at once.

    Attributes:
        suite: its name.
        seeds: how many.
        only: heads, with commas; all of the suite's if empty.
    """

    suite: str
    seeds: int
    only: str = ""

    @property
    def heads(self) -> list[str]:
        """Those of ``only``."""
        return self.only.split(",") if self.only else []

    def arguments(self, runs: Path, size: str) -> list[str]:
        """Of ``marginbench``.

        Args:
            runs: RUNS.
            size: of the suite.
        """
        only = ["--only", self.only] if self.only else []
        sized = ["--size", size] if size != FULL else []
        return [
            *("run", self.suite, *sized, "--seeds", str(self.seeds), *only),
            *("--no-report", "--runs", str(runs)),
        ]


def stages() -> list[Stage]:
    """All of them, in the order of what they tell."""
    own = [Stage(suite, seeds, only) for seeds in SEEDS for suite, only in PAPER_HEADS.items()]
    tables = [suite for suite in PAPER_HEADS if not suite.startswith("fig")]
    return own + [Stage(suite, seeds) for seeds in SEEDS for suite in tables]


def run_stages(
    wanted: Sequence[Stage], runs: Path, size: str, deadline: float
) -> tuple[list[Stage], list[str]]:
    """Run them until the time is over; a suite that cannot be run is left out of what follows.

    Args:
        wanted: in order.
        runs: RUNS.
        size: of the suites.
        deadline: by :func:`time.monotonic`.

    Returns:
        Those that ran to their end, and the suites that could not be run.
    """
    done: list[Stage] = []
    failed: list[str] = []
    for stage in wanted:
        if stage.suite in failed:
            continue
        status = run_module(["marginbench", *stage.arguments(runs, size)], deadline)
        if status is None:
            break
        if status:
            failed.append(stage.suite)
        else:
            done.append(stage)
    return done, failed


def write_pages(wanted: Sequence[Stage], runs: Path, size: str, target: Path) -> list[Path]:
    """The page of each suite, of its stage with the most seeds whose runs have all ended.

    Of two with as many seeds it is the later one, which has more heads.

    Args:
        wanted: in order.
        runs: RUNS.
        size: of the suites.
        target: gets a folder a suite.
    """
    whole: dict[str, Stage] = {}
    for stage in wanted:
        if stage.suite in whole and stage.seeds < whole[stage.suite].seeds:
            continue
        try:
            run = open_suite(stage.suite, runs, seeds=stage.seeds, size=size, only=stage.heads)
        except UserError:
            # Its data are not here.
            continue
        if results_of(run)["state"].isin([state.value for state in FINISHED]).all():
            whole[stage.suite] = stage
    return [
        publish(
            stage.suite,
            runs,
            target,
            size=size,
            seeds=stage.seeds,
            only=stage.heads,
            command=shlex.join(["marginbench", *stage.arguments(runs, size)]),
        )
        for stage in whole.values()
    ]


def minutes(text: str) -> float:
    """An option's value.

    Raises:
        ValueError: it is no number above 0.
    """
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, check, measure, run, write the pages.

    Returns:
        Exit status: 1 if the checks failed or a suite could not be run, else 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=minutes, default=40.0, help="for everything; default 40")
    parser.add_argument(
        "--size",
        choices=[FULL, "small"],
        default=FULL,
        help="small: for two CPU cores, to try this script",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"), help="RUNS")
    parser.add_argument("--target", type=Path, default=PUBLISHED / "paper", help="of the pages")
    parser.add_argument("--runs-only", action="store_true", help="without the checks and the speed")
    given = parser.parse_args(arguments)
    if given.size == FULL and not torch.cuda.is_available():
        parser.error(
            "there is no CUDA device, and on a CPU this takes weeks; --size small tries it"
        )
    begun = time.monotonic()
    end = begun + 60 * given.minutes
    kept = FOR_THE_PAGES + (0 if given.runs_only else FOR_CHECKS_AND_SPEED)
    wanted = stages()
    done, failed = run_stages(wanted, given.runs, given.size, end - 60 * given.minutes * kept)
    pages = write_pages(wanted, given.runs, given.size, given.target)
    tested = None
    if not given.runs_only:
        tested = run_module(["pytest", "--quiet", CHECKS], end)
        measure(end, given.target, quick=given.size != FULL)
    print(
        f"{len(done)} of {count(len(wanted), 'stage')} done in "
        f"{duration(time.monotonic() - begun)}; the same command goes on from {given.runs}"
    )
    for page in pages:
        print(page)
    for suite in failed:
        print(f"{suite} could not be run; see above")
    if tested:
        print(f"{CHECKS} failed: do not rely on these runs before it is known why; see above")
    return 1 if failed or tested else 0


def measure(deadline: float, target: Path, *, quick: bool) -> None:
    """Measure the speed and write speed.md.

    Args:
        deadline: by :func:`time.monotonic`.
        target: the pages' folder.
        quick: few steps.
    """
    target.mkdir(parents=True, exist_ok=True)
    page = ["--page", str(target / "speed.md")]
    run_module(["benchmarks.speed", *page, *(["--quick"] if quick else [])], deadline)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
