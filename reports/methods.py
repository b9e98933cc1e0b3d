"""How the numbers were made, and with which versions."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.runs.conditions import settings, varying_conditions
from marginbench.runs.values_in_words import values_as_text
from marginbench.text import count

TEXT = (
    "Errors and accuracies are fractions of the test images or pairs, of the last iterate. A ± is "
    "a standard deviation over seeds; brackets hold a 95 % confidence interval; a band of a curve "
    "goes from the lowest seed to the highest. Differences are taken seed by seed. A verdict "
    "counts Holm's correction over the heads of a setting.",
    "Every figure's data and every table are CSV files beside this page; marginbench export SUITE "
    "writes the figures as PDF, SVG and PNG in the widths of one and of two columns of a paper "
    "(--figures DIR), and the results and histories for other programs (--csv, --parquet, "
    "--tensorboard).",
)
MOST_COLUMNS = 6
"""Of the table of what differs; with more fields, each setting has its own in one cell."""


@section("methods", title="Methods", order=84, always=True)
def methods(results: pd.DataFrame) -> SectionContent:
    """What the numbers mean, and a table of the versions that the cells were trained with."""
    made: Counter[tuple[str, str, str]] = Counter()
    processors: Counter[str] = Counter()
    for device, *processor, gpu, code, libraries in results[
        ["device", "processor", "cpu_capability", "gpu_software", "code", "libraries"]
    ].itertuples(index=False):
        if isinstance(device, str):
            kind = ", ".join(name for name in processor if isinstance(name, str))
            if device == "cpu" and kind:
                processors[kind] += 1
                device = f"cpu, {kind}"
            elif device != "cpu" and isinstance(gpu, str):
                device = f"{device}, {gpu}"
            known = libraries if isinstance(libraries, dict) else {}
            versions = ", ".join(f"{name} {version}" for name, version in sorted(known.items()))
            made[(device, versions or "–", code if isinstance(code, str) else "–")] += 1
    tables = []
    if made:
        parts: dict[tuple[str, str], list[int]] = {}
        for (device, versions, _), number in made.items():
            entry = parts.setdefault((device, versions), [0, 0])
            entry[0] += number
            entry[1] += 1
        rows = [
            {"device": device, "versions": versions, "cells": cells, "code": count(codes, "digest")}
            for (device, versions), (cells, codes) in parts.items()
        ]
        caption = (
            "What the finished cells were trained with. A digest of code is that of a head, its "
            "backbone, its data source and the training loop; each cell's is in the table below."
        )
        tables.append(Table("versions", caption, pd.DataFrame(rows)))
    text = list(TEXT)
    # Of cells of an earlier version the model is not known: they may be of the same.
    on_cpu = results.loc[results["device"] == "cpu", ["processor", "cpu_capability"]]
    if (on_cpu.nunique() > 1).any():
        numbers = "; ".join(f"{kind}: {count(n, 'cell')}" for kind, n in sorted(processors.items()))
        text.append(
            f"Processors of two kinds or more trained these cells ({numbers}). They round "
            "differently: the difference of two heads of a seed, one on each kind, has more chance "
            "in it."
        )
    if not results.empty:
        shared, conditions = _conditions(results)
        text.append(f"All cells: {shared}.")
        tables += conditions
        for name, group in results.groupby("setting", sort=False):
            # Where each cell tests another set of a protocol, or is split by its seed, they differ.
            said = [*dict.fromkeys(tuple(lines) for lines in group["remarks"].dropna() if lines)]
            of = f" (the first of {len(said)} that differ)" if len(said) > 1 else ""
            text += [f"Images of {name}{of}: {' '.join(said[0])}"] if said else []
    return SectionContent(text=text, tables=tables)


def _conditions(results: pd.DataFrame) -> tuple[str, list[Table]]:
    """What all cells share, in words, and a table of what differs between settings."""
    varying = varying_conditions(results)
    everywhere = results["conditions"].iloc[0]
    shared = values_as_text({f: v for f, v in everywhere.items() if f not in varying})
    if not varying:
        return shared, []
    rows = []
    for name, group in settings(results):
        own = group["conditions"].iloc[0]
        cells = {field: str(own.get(field, "–")) for field in varying}
        if len(varying) > MOST_COLUMNS:
            cells = {"values": values_as_text({f: own[f] for f in varying if f in own})}
        rows.append({"setting": name} | cells)
    caption = "What differs between the settings, beside head and seed."
    return shared, [Table("conditions", caption, pd.DataFrame(rows))]
