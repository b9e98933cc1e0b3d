"""The answer: which heads are better, worse, equal, or not decided, in words and in one figure."""

from __future__ import annotations

import pandas as pd

from marginbench import SectionContent, section
from marginbench.reporting.forest import forest_figure
from marginbench.reporting.next_command import advice
from marginbench.reporting.opening import findings
from marginbench.reporting.verdicts import verdicts


@section("verdicts", title="The answer", order=5, always=True)
def answer(results: pd.DataFrame) -> SectionContent:
    """A sentence for each verdict of each setting, what to do next, and the forest plot."""
    found = verdicts(results)
    figure = forest_figure(found)
    return SectionContent(
        text=advice(results, found),
        findings=findings(found),
        figures=[] if figure is None else [figure],
    )
