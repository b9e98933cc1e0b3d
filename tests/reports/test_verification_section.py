"""The verification section: its tables and figures, and what is missing."""

import numpy as np
import pandas as pd
from marginbench.reports.retrieval_table import mean_text
from marginbench.reports.verification import verification
from scipy import stats

from marginbench.command_line.report import PRINTED
from marginbench.runs.results import evaluation
from tests.reports.frames import frame, row
from tests.reports.verified_runs import table, verified


def test_accuracy_and_difference_are_those_of_the_runs(tmp_path):
    rows = [
        verified(tmp_path, head, seed, noise=noise)
        for head, noise in (("softmax", 0.5), ("arcface", 0.2))
        for seed in range(3)
    ]
    content = verification(frame(rows))
    accuracy = table(content, "verification-accuracy-faces").set_index("head")
    means = {
        head: np.mean([r["verification_accuracy"] for r in rows if r["head"] == head])
        for head in ("softmax", "arcface")
    }
    for head, mean in means.items():
        assert accuracy.loc[head, "accuracy %"].startswith(f"{100 * mean:.2f} ± ")
    assert accuracy.loc["softmax", "verdict"] == "baseline"
    gain = 100 * (means["arcface"] - means["softmax"])
    assert accuracy.loc["arcface", "difference (points)"].startswith(f"{gain:+.2f}")
    errors = [r["verification_standard_error"] for r in rows if r["head"] == "softmax"]
    assert accuracy.loc["softmax", "standard error of folds"] == f"{100 * np.mean(errors):.2f}"
    assert [figure.name for figure in content.figures] == [
        "verification-faces",
        "verification-roc-faces",
        "verification-scores-faces",
        "verification-dimension-faces",
    ]


def test_retrieval_is_that_of_the_runs_with_its_interval(tmp_path):
    rows = [
        verified(tmp_path, head, seed, noise=noise)
        for head, noise in (("softmax", 0.9), ("arcface", 0.4))
        for seed in range(4)
    ]
    (found,) = [t for t in verification(frame(rows)).tables if t.name == "retrieval-faces"]
    # The terminal shows it too, under what stands before the colon.
    assert found.name.startswith(PRINTED)
    assert found.caption.startswith("faces, retrieval: ")
    retrieval = found.frame.set_index("head")
    of = {h: [r["map_at_r"] for r in rows if r["head"] == h] for h in ("softmax", "arcface")}
    mean, error = np.mean(of["arcface"]), stats.sem(of["arcface"])
    low, high = stats.t.interval(0.95, 3, mean, error)
    expected = f"{100 * mean:.2f} [{100 * low:.2f}, {100 * high:.2f}]"
    assert retrieval.loc["arcface", "MAP@R %"] == expected
    gain = 100 * (mean - np.mean(of["softmax"]))
    assert retrieval.loc["arcface", "difference (points)"].startswith(f"{gain:+.2f} [")
    second = np.mean([r["verification"][0]["retrieval"]["recall_at"][1][1] for r in rows[:4]])
    assert retrieval.loc["softmax", "Recall@2 %"] == f"{100 * second:.2f}"


def test_an_interval_of_a_share_stays_between_0_and_100_percent():
    assert mean_text(pd.Series([0.99, 1.0, 0.97])) == "98.67 [94.87, 100.00]"
    assert mean_text(pd.Series([0.01, 0.0, 0.03])) == "1.33 [0.00, 5.13]"


def test_neighbours_are_drawn_of_the_baseline_and_the_best_head_where_images_may_be_shown(tmp_path):
    noises = {"softmax": 0.5, "arcface": 0.9, "am-softmax": 0.1}
    rows = [
        verified(tmp_path, head, seed, noise=noise, shown=True)
        for head, noise in noises.items()
        for seed in range(2)
    ]
    figures = {figure.name: figure for figure in verification(frame(rows)).figures}
    drawn = figures["neighbours-faces"]
    assert drawn.data["label"].unique().tolist() == ["softmax", "am-softmax"]
    for axis, head in zip(drawn.figure.axes, ("softmax", "am-softmax"), strict=True):
        assert axis.get_title().startswith(head)
        arrays = evaluation(tmp_path / f"{head}-0-None")
        right = arrays["verification/made-up/neighbours/right"]
        # A frame of other lines and a cross tell without colours which are wrong.
        lines = [patch.get_linestyle() for patch in axis.patches]
        assert len(lines) - lines.count("-") == len(axis.lines) / 2 == (~right).sum() > 0
        assert len(axis.images) == len(lines) == right.size + len(right)
        shown = drawn.data[drawn.data["label"] == head]
        assert shown["of the query's class"].tolist() == right.ravel().tolist()
    hidden = [verified(tmp_path / "hidden", seed=seed, noise=0.5) for seed in range(2)]
    assert not [f for f in verification(frame(hidden)).figures if "neighbours" in f.name]


def test_results_without_retrieval_have_no_such_table(tmp_path):
    row = verified(tmp_path)
    del row["verification"][0]["retrieval"]
    names = [t.name for t in verification(frame([row])).tables]
    assert not [name for name in names if name.startswith("retrieval")]


def test_rates_are_those_of_the_results(tmp_path):
    rows = [verified(tmp_path, "softmax", seed, noise=0.5) for seed in range(2)]
    rates = table(verification(frame(rows)), "verification-rates").iloc[0]
    stored = [r["verification"][0]["characteristic"] for r in rows]
    area = np.mean([one["area"]["value"] for one in stored])
    low = np.mean([one["area"]["low"] for one in stored])
    assert rates["area under ROC"].startswith(f"{area:.4f} [{low:.4f}, ")
    # 60 different pairs cannot show one false acceptance in a hundred.
    assert rates["TAR % at FAR 0.01"] == "–"
    assert rates["TAR % at FAR 0.1"] != "–"


def test_nothing_finished_shows_nothing_and_a_failed_run_is_counted(tmp_path):
    assert verification(frame([row(state="failed")])).tables == []
    rows = [verified(tmp_path), row("arcface", state="failed", setting="faces", error=None)]
    accuracy = table(verification(frame(rows)), "verification-accuracy-faces").set_index("head")
    assert accuracy.loc["arcface", "seeds"] == "0 of 1, 1 failed"
    assert accuracy.loc["arcface", "accuracy %"] == "–"


def test_every_set_of_pairs_has_its_own_tables(tmp_path):
    rows = [verified(tmp_path, sets=("lfw", "cfp_fp"))]
    content = verification(frame(rows))
    names = [t.name for t in content.tables if t.name.startswith("verification-accuracy-faces")]
    assert names == ["verification-accuracy-faces-lfw", "verification-accuracy-faces-cfp-fp"]


def test_hardest_pairs_are_named(tmp_path):
    rows = [verified(tmp_path, "softmax", seed) for seed in range(2)]
    hardest = table(verification(frame(rows)), "hardest-pairs")
    assert set(hardest["pair of"]) == {"same person", "different people"}
    first = hardest.iloc[0]
    assert first["first"].startswith("Person_")
    assert first["runs"] == "2 of 2"
    expected = rows[0]["verification"][0]["hardest"]["same"][0]
    assert (first["first"], first["second"]) == (expected["first"], expected["second"])
