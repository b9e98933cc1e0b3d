"""Class-by-class cosine of the features: softmax, L-Softmax m = 4 and the best head (Fig. 5)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns

from marginbench import Figure, SectionContent, section
from marginbench.reporting.comparison_table import compare
from marginbench.reporting.drawing import class_labels, literal, new_figure
from marginbench.runs.conditions import settings
from marginbench.runs.results import evaluation, finished_runs, is_in_evaluation
from marginbench.text import distinct, slug

MATRIX = "class_cosine"
PAPERS_HEAD = "l-softmax m=4"
SHORT_NAME = 3
FEW_CLASSES = 20


@section("class-cosine", title="Cosine between classes", order=40)
def class_cosine(results: pd.DataFrame) -> SectionContent:
    """One figure a setting: mean cosine between test features of each two classes."""
    figures = []
    for name, rows in settings(results):
        labels = _drawn(rows)
        if not labels:
            continue
        done = finished_runs(rows)
        # Long names stand upright below the panels, which are not to shrink for them.
        shown = distinct(map(str, done.iloc[0]["class_names"]))
        class_names = class_labels(shown)
        few = len(class_names) <= FEW_CLASSES
        upright = few and max(map(len, class_names)) > SHORT_NAME
        figure, axes = new_figure(1, len(labels), width=4.6, height=6.4 if upright else 4.4)
        data = []
        for position, (axis, label) in enumerate(zip(axes, labels, strict=True)):
            runs = done[done["label"] == label]
            matrix = np.mean([evaluation(f, [MATRIX])[MATRIX] for f in runs["folder"]], axis=0)
            names = class_names if few else False
            sns.heatmap(
                matrix,
                ax=axis,
                vmin=-1,
                vmax=1,
                cmap="vlag",
                square=True,
                # Of more classes numbers would run into one another; the data have them.
                annot=len(matrix) <= 6,
                fmt=".2f",
                annot_kws={"size": 5},
                xticklabels=names,
                yticklabels=names if position == 0 else False,
                cbar=position == len(labels) - 1,
                cbar_kws={"label": "mean cosine", "shrink": 0.8},
            )
            data += [
                {"label": label, "class": one, "other class": other, "mean cosine": value}
                for one, values in zip(shown, matrix, strict=True)
                for other, value in zip(shown, values, strict=True)
            ]
            own = np.nanmean(np.diag(matrix))
            other = np.nanmean(matrix[~np.eye(len(matrix), dtype=bool)])
            axis.set_title(
                f"{literal(label)}\nwithin a class {own:.2f}\nbetween classes {other:.2f}"
            )
            axis.set_xlabel("class")
            axis.set_ylabel("class" if position == 0 else "")
        caption = (
            f"{name}: mean cosine between test features of two classes, an image never paired with "
            f"itself, mean over seeds: the baseline beside L-Softmax with m = 4, the paper's pair, "
            "and the head with the lowest test error, as far as they are there. In the form of "
            "Liu et al., ICML 2016, Fig. 5."
        )
        figures.append(Figure(f"class-cosine-{slug(name)}", caption, figure, pd.DataFrame(data)))
    return SectionContent(figures=figures)


def _drawn(rows: pd.DataFrame) -> list[str]:
    """The labels drawn: baseline, L-Softmax m = 4, the other head with the lowest test error.

    None where runs have no matrix: they have no test images, or too many classes.
    """
    done = finished_runs(rows)
    # The first run says what there is at little cost, where there are thousands.
    if not _all_have_matrices(done.head(1)):
        return []
    compared = [row for row in compare(rows) if row.test_errors]
    baseline = [row.label for row in compared if row.is_baseline]
    of_the_paper = [row.label for row in compared if row.label.startswith(PAPERS_HEAD)][:1]
    others = sorted(
        (row for row in compared if not row.is_baseline), key=lambda row: row.mean_test_error
    )
    best = [row.label for row in others[:1]]
    drawn = list(dict.fromkeys([*baseline, *of_the_paper, *best]))
    return drawn if _all_have_matrices(done[done["label"].isin(drawn)]) else []


def _all_have_matrices(runs: pd.DataFrame) -> bool:
    return all(is_in_evaluation(folder, MATRIX) for folder in runs["folder"])
