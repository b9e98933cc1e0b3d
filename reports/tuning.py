"""What to choose: each head's best learning rate and parameters by the held-out images."""

from __future__ import annotations

import pandas as pd

from marginbench.results import finished_runs
from marginbench.sections import SectionContent, Table, section
from marginbench.wording import slug


@section("tuning", title="Choices by held-out images", order=7)
def tuning(results: pd.DataFrame) -> SectionContent:
    """For every data source tested on held-out images: the best choice of each head, then all."""
    held_out = results[[p.get("validation") == "held-out" for p in results["data_parameters"]]]
    tables = []
    for data, rows in held_out.groupby("data", sort=False):
        choices = _choices(rows)
        if choices.empty:
            continue
        best = choices[choices["mean"].notna()].drop_duplicates("head")
        about = (
            f"{data}: error on held-out training images, in percent, mean over seeds; the test "
            "set was not looked at."
        )
        tables.append(
            Table(
                f"tuning-best-{slug(str(data))}",
                f"{about} The best choice of each head.",
                _printed(best),
            )
        )
        tables.append(
            Table(
                f"tuning-{slug(str(data))}", f"{about} Every choice, best first.", _printed(choices)
            )
        )
    return SectionContent(tables=tables)


def _choices(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a head, learning rate and parameters, the lowest error first; undone ones last."""
    chosen = []
    varying = _varying(rows)
    for _, group in rows.groupby(
        [rows["learning_rate"], rows["head"], rows["head_parameters"].map(repr)], sort=False
    ):
        first = group.iloc[0]
        done = finished_runs(group)["test_error"].astype(float)
        told = [
            f"{name}={value:g}" if isinstance(value, (int, float)) else f"{name}={value}"
            for name, value in first["head_parameters"].items()
            if name in varying[first["head"]]
        ]
        chosen.append(
            {
                "head": first["head"],
                "learning rate": f"{first['learning_rate']:g}",
                "parameters": " ".join(told),
                "mean": 100 * done.mean() if len(done) else float("nan"),
                "seeds": f"{len(done)} of {len(group)}",
                "state": ", ".join(sorted(set(group["state"]))),
            }
        )
    return pd.DataFrame(chosen).sort_values("mean", kind="stable", ignore_index=True)


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
    numbers = printed["held-out error %"]
    return printed.assign(
        **{"held-out error %": [f"{v:.2f}" if pd.notna(v) else "–" for v in numbers]}
    )
