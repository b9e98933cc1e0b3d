"""What to choose: each head's best learning rate and parameters by the held-out images."""

from __future__ import annotations

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.runs.conditions import (
    conditions_key,
    conditions_text,
    values_as_text,
    varying_conditions,
)
from marginbench.runs.results import finished_runs
from marginbench.text import slug

LEARNING_RATE = "optimiser.learning_rate"


@section("tuning", title="Choices by held-out images", order=7)
def tuning(results: pd.DataFrame) -> SectionContent:
    """For every data source tested on held-out images: the best choice of each head, then all."""
    held_out = results[[p.get("validation") == "held-out" for p in results["data_parameters"]]]
    tables = []
    for data, rows in held_out.groupby("data", sort=False):
        choices = _choices(rows)
        about = (
            f"{data}: error on held-out training images, in percent, mean over seeds; the test "
            "set was not looked at."
        )
        best = choices[choices["complete"]].drop_duplicates("head")
        undecided = sorted(set(choices["head"]) - set(best["head"]))
        caption = f"{about} The best choice of each head, among those whose seeds all finished."
        if undecided:
            caption += f" No choice has that yet: {', '.join(undecided)}."
        stem = slug(str(data))
        if not best.empty:
            tables.append(Table(f"tuning-best-{stem}", caption, _printed(best)))
        caption = f"{about} Every choice, best first; those whose seeds did not all finish last."
        tables.append(Table(f"tuning-{stem}", caption, _printed(choices)))
    return SectionContent(tables=tables)


def _choices(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for runs that differ in seed only, the lowest error of complete ones first."""
    chosen = []
    varying = _varying(rows)
    conditions = [field for field in varying_conditions(rows) if field != LEARNING_RATE]
    experiment = rows["conditions"].map(conditions_key)
    for _, group in rows.groupby(
        [experiment, rows["head"], rows["head_parameters"].map(repr)], sort=False
    ):
        first = group.iloc[0]
        done = finished_runs(group)["test_error"].astype(float)
        told = {k: v for k, v in first["head_parameters"].items() if k in varying[first["head"]]}
        chosen.append(
            {
                "head": first["head"],
                "learning rate": f"{first['learning_rate']:g}",
                "parameters": values_as_text(told),
                "conditions": conditions_text(first["conditions"], conditions),
                "mean": 100 * done.mean() if len(done) else float("nan"),
                "seeds": f"{len(done)} of {len(group)}",
                "state": ", ".join(sorted(set(group["state"]))),
                "complete": len(done) == len(group),
                "diverged": bool((group["state"] == "diverged").any()),
            }
        )
    frame = pd.DataFrame(chosen).sort_values(
        ["diverged", "complete", "mean"], ascending=[True, False, True], kind="stable"
    )
    return frame.reset_index(drop=True)


def _varying(rows: pd.DataFrame) -> dict[str, set[str]]:
    """The parameters of each head that take several values."""
    seen: dict[str, dict[str, set[str]]] = {}
    for head, parameters in zip(rows["head"], rows["head_parameters"], strict=True):
        for name, value in parameters.items():
            seen.setdefault(head, {}).setdefault(name, set()).add(repr(value))
        seen.setdefault(head, {})
    return {
        head: {name for name, values in names.items() if len(values) > 1}
        for head, names in seen.items()
    }


def _printed(choices: pd.DataFrame) -> pd.DataFrame:
    printed = choices.rename(columns={"mean": "held-out error %"})
    printed = printed.drop(columns=["complete", "diverged"])
    if not printed["conditions"].any():
        printed = printed.drop(columns="conditions")
    numbers = printed["held-out error %"]
    return printed.assign(
        **{"held-out error %": [f"{v:.2f}" if pd.notna(v) else "–" for v in numbers]}
    )
