"""Does `run --until-decided` keep its promise, and how many runs does it save?

Tables of eleven heads and a baseline are drawn at random and decided by the project's own code
(marginbench.reporting.decisions), look by look: heads that are decided draw no further seeds.
Counted are whole tables with a false claim, and runs. Run, a few minutes:

    python benchmarks/until_decided.py

which writes reports/published/until-decided.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from marginbench.reporting.decisions import Look, decide
from marginbench.reporting.proportions import wilson_interval
from marginbench.reporting.significance import LEVEL
from marginbench.reporting.table_files import markdown
from marginbench.runs.seed_plan import SPENDING, SeedPlan
from marginbench.text import percent

PAGE = Path(__file__).parents[1] / "reports" / "published" / "until-decided.md"
HEADS = 11
NONE = (0.0,) * HEADS
# In standard deviations of a paired difference; as on the digits, where L- and A-Softmax stand at 2
# to 3, other heads lower.
LIKE_THE_DIGITS = (3.0, 2.5, 2.5, 2.0, 1.5, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0)
IMAGES = 500

Rule = Callable[[int], tuple[tuple[int, ...], tuple[float, ...]]]


@dataclass(frozen=True)
class Scenario:
    """How the heads of a table truly stand to the baseline.

    Attributes:
        name: for the page.
        effects: mean gain of each head, in standard deviations of its paired difference.
        scatter: of each head's runs beside the baseline's, as a multiple.
        images: errors are whole numbers of so many test images; 0: any number.
        equal_within: δ, in the same unit as the effects; None claims no equality.
    """

    name: str
    effects: tuple[float, ...]
    scatter: tuple[float, ...] = (1.0,) * HEADS
    images: int = 0
    equal_within: float | None = None


SCENARIOS = (
    Scenario("no difference", NONE),
    Scenario("no difference, one head scatters tenfold", NONE, (10.0, *(1.0,) * (HEADS - 1))),
    Scenario("no difference, whole images of 500", NONE, images=IMAGES),
    Scenario("no difference, δ of one deviation", NONE, equal_within=1.0),
    Scenario("every difference is δ, one deviation", (1.0,) * HEADS, equal_within=1.0),
    Scenario("as on the digits", LIKE_THE_DIGITS),
    Scenario("as on the digits, δ of one deviation", LIKE_THE_DIGITS, equal_within=1.0),
)


def gains_of(scenario: Scenario, seeds: int, random: np.random.Generator) -> np.ndarray:
    """One table: the gain of each head in each seed, (heads, seeds); the baseline is common."""
    baseline = random.normal(size=seeds)
    own = random.normal(size=(HEADS, seeds)) * np.array(scenario.scatter)[:, None]
    deviation = np.sqrt(1 + np.array(scenario.scatter) ** 2)
    gains = (own - baseline) / deviation[:, None] + np.array(scenario.effects)[:, None]
    # A deviation of the paired differences is taken for half a percent of the images.
    step = 1 / (0.005 * scenario.images) if scenario.images else 0
    return np.round(gains / step) * step if step else gains


def one_table(
    gains: np.ndarray, looks: tuple[int, ...], levels: tuple[float, ...], within: float | None
) -> tuple[list[str], int]:
    """The verdict on every head, and the number of runs, the baseline's included."""
    states = [
        {str(head): Look(tuple(gains[head, :seeds])) for head in range(len(gains))}
        for seeds in looks
    ]
    found = decide(states, levels, within, len(gains))
    verdicts = [found[str(head)].verdict for head in range(len(gains))]
    taken = [looks[found[str(head)].look or 0] for head in range(len(gains))]
    return verdicts, sum(taken) + max(taken)


def is_false(verdict: str, effect: float, within: float | None) -> bool:
    """Whether a verdict claims what is not so."""
    if verdict == "equal":
        return within is not None and abs(effect) >= within
    return (verdict == "better" and effect <= 0) or (verdict == "worse" and effect >= 0)


def simulate(
    scenario: Scenario,
    looks: tuple[int, ...],
    levels: tuple[float, ...],
    tables: int,
    seed: int = 0,
) -> dict[str, float]:
    """Shares over tables: false (with its interval), found, equal; and runs a table."""
    random = np.random.default_rng(seed)
    false, found, equal, runs = 0, 0, 0, 0
    real = sum(effect != 0 for effect in scenario.effects)
    for _ in range(tables):
        gains = gains_of(scenario, looks[-1], random)
        verdicts, taken = one_table(gains, looks, levels, scenario.equal_within)
        pairs = list(zip(verdicts, scenario.effects, strict=True))
        false += any(is_false(verdict, e, scenario.equal_within) for verdict, e in pairs)
        found += sum(v in ("better", "worse") and e != 0 for v, e in pairs)
        equal += verdicts.count("equal")
        runs += taken
    low, high = wilson_interval(false / tables, tables)
    return {
        "false": false / tables,
        "low": low,
        "high": high,
        "found": found / (real * tables) if real else float("nan"),
        "equal": equal / (HEADS * tables),
        "runs": runs / tables,
    }


def rules(max_seeds: int) -> dict[str, tuple[tuple[int, ...], tuple[float, ...]]]:
    """What is compared, as looks and levels: plans, fixed numbers, and looking without a plan."""
    plans = {name: SeedPlan(max_seeds, name) for name in SPENDING}
    looks = SeedPlan(max_seeds).looks
    chosen = {f"planned looks, {n}": (p.looks, p.levels(LEVEL)) for n, p in plans.items()}
    fixed = {f"{n} seeds, fixed": ((n,), (LEVEL,)) for n in (10, max_seeds)}
    return {**chosen, **fixed, "5 % at every look": (looks, (LEVEL,) * len(looks))}


def main() -> None:
    """Simulate and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--max-seeds", type=int, default=30)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    began = time.monotonic()
    rows = []
    for scenario in SCENARIOS:
        for name, (looks, levels) in rules(options.max_seeds).items():
            found = simulate(scenario, looks, levels, options.tables)
            interval = f"[{percent(found['low'], 1)}, {percent(found['high'], 1)}]"
            rows.append(
                {
                    "truth": scenario.name,
                    "rule": name,
                    "tables with a false claim, %": f"{percent(found['false'], 1)} {interval}",
                    "differences found, %": percent(found["found"], 0),
                    "called equal, %": percent(found["equal"], 0),
                    "runs a table": f"{found['runs']:.0f}",
                }
            )
            print(rows[-1], flush=True)
    looks = ", ".join(map(str, SeedPlan(options.max_seeds).looks))
    text = PREFACE.format(tables=options.tables, heads=HEADS, looks=looks)
    options.page.write_text(text + markdown(pd.DataFrame(rows)), encoding="utf-8")
    print(f"{options.page}, {time.monotonic() - began:.0f} s")


PREFACE = """# Seeds until it is decided: what is promised, and what it saves

Made by `python benchmarks/until_decided.py`: {tables:,} tables a row of {heads} heads and a
baseline, drawn at random, decided by the code that reports use. Gains are in standard deviations of
a paired difference; all heads share the baseline's runs, and so depend on each other. The looks are
at {looks} seeds. A false claim is "better" or "worse" where there is no difference or one the other
way, or "equal" where the difference is δ or more; in brackets the 95 % interval of the simulation.
"5 % at every look" is what is not done: the same test again and again. Runs count the baseline's.

"""

if __name__ == "__main__":
    main()
