"""The verification section: one protocol's cells put together, tables, figures, what is missing."""

import json

import numpy as np
import pandas as pd
import pytest
from marginbench.reports.retrieval_table import mean_text
from marginbench.reports.verification import verification
from scipy import stats

from marginbench.command_line.report import PRINTED
from marginbench.evaluation import RETRIEVAL
from marginbench.evaluation.receiver_operating import characteristic
from marginbench.evaluation.verification_evaluation import evaluate_verification
from marginbench.experiments.cell_fields import Verification
from marginbench.reporting.verification_results import verified_settings
from marginbench.runs.results import evaluation
from tests.evaluation.test_verification_evaluation import EACH, FOLDS, made_up
from tests.reports.frames import frame, row


def verified(
    folder,
    head="softmax",
    seed=0,
    tested=None,
    noise=0,
    sets=("made-up",),
    shown=False,
    **fields,
):
    """A finished run with real verification numbers, its arrays in a run folder."""
    arrays, entries = {}, []
    for name in sets:
        features, pairs = made_up(seed=1, tested=tested)
        random = np.random.default_rng([seed, int(10 * noise)])
        features = features + noise * random.normal(size=features.shape)
        pairs = type(pairs)(**{**vars(pairs), "name": name, "may_be_shown": shown})
        numbers, of_pairs = evaluate_verification(features, pairs, Verification())
        entries.append(numbers)
        arrays |= {f"verification/{name}/{key}": array for key, array in of_pairs.items()}
    run_folder = folder / f"{head}-{seed}-{tested}"
    run_folder.mkdir(parents=True)
    np.savez(run_folder / "evaluation.npz", **arrays)
    values = {
        "setting": "faces",
        "data": "lfw",
        "verification": entries,
        "verification_accuracy": entries[0]["accuracy"],
        "verification_of": entries[0]["description"],
        "verification_standard_error": entries[0]["standard_error"],
        **{name: entries[0]["retrieval"][name] for name in RETRIEVAL},
        "remarks": [],
        "test_images": 0,
        "folder": run_folder,
    }
    return row(head, None, seed, None, train_error=0.0, **(values | fields))


def table(content, name):
    return next(t.frame for t in content.tables if t.name.startswith(name))


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
    assert accuracy.loc["arcface", "difference"].startswith(f"{gain:+.2f}")
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
    assert retrieval.loc["arcface", "difference"].startswith(f"{gain:+.2f} [")
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


def test_ten_cells_of_a_protocol_make_one_result(tmp_path):
    rows = [
        verified(
            tmp_path,
            head,
            seed,
            tested=(fold,),
            noise=0.5,
            comparison=f"c{fold}",
            data_parameters={"protocol": "unrestricted", "tested_set": fold + 1},
            remarks=[f"set {fold + 1} is tested"],
        )
        for head in ("softmax", "arcface")
        for fold in range(FOLDS)
        for seed in range(2)
    ]
    (setting,) = verified_settings(frame(rows))
    assert setting.cells_a_run == FOLDS
    assert len(setting.rows) == 4
    for one in setting.rows.itertuples():
        own = [
            r["verification_accuracy"]
            for r in rows
            if (r["label"], r["seed"]) == (one.label, one.seed)
        ]
        assert one.verification_accuracy == pytest.approx(np.mean(own))
        assert one.verification_standard_error == pytest.approx(np.std(own, ddof=1) / FOLDS**0.5)
        pairs = setting.tested_pairs(one)
        assert len(pairs.scores) == FOLDS * EACH
        assert sorted(set(pairs.fold.tolist())) == list(range(FOLDS))
        assert setting.characteristic(one).accuracy.value == pytest.approx(np.mean(own))
    content = verification(frame(rows))
    accuracy = table(content, "verification-accuracy-faces")
    assert accuracy["seeds"].tolist() == ["2", "2"]
    of_first = f"(in the first of {FOLDS} trainings)"
    assert content.text == [f"faces {of_first}: set 1 is tested"]
    told = {t.name.removesuffix("-faces") for t in content.tables if of_first in t.caption}
    assert told == {"verification-accuracy", "retrieval", "identification"}


def test_rates_of_one_cell_are_those_of_its_result_and_of_its_pairs(tmp_path):
    one = verified(tmp_path, noise=0.9)
    # As a result file brings them.
    one["verification"] = json.loads(json.dumps(one["verification"]))
    (setting,) = verified_settings(frame([one]))
    (complete,) = setting.done().itertuples()
    pairs = setting.tested_pairs(complete)
    (entry,) = complete.entries
    threshold = np.array(entry["thresholds"])[pairs.fold]
    found = setting.characteristic(complete)
    assert found == pairs.characteristic((pairs.scores >= threshold) == pairs.same)
    assert any(point.tar is None for point in found.points)
    assert any(point.tar is not None for point in found.points)


def test_protocols_that_differ_in_more_than_the_tested_set_are_apart(tmp_path):
    folders = {rate: tmp_path / str(rate) for rate in (0.1, 0.02)}
    for run_folder in folders.values():
        run_folder.mkdir()
    rows = [
        verified(
            run_folder,
            tested=(fold,),
            noise=0.5,
            comparison=f"{rate} {fold}",
            learning_rate=rate,
            data_parameters={"protocol": "unrestricted", "tested_set": fold + 1},
        )
        for rate, run_folder in folders.items()
        for fold in range(FOLDS)
    ]
    found = verified_settings(frame(rows))
    assert [one.name for one in found] == ["faces", "faces (2)"]
    assert [one.cells_a_run for one in found] == [FOLDS, FOLDS]


def test_people_of_different_cells_are_resampled_apart(tmp_path):
    """Each cell numbers its people from 0, as LFW's cells do."""
    rows = [
        verified(
            tmp_path,
            tested=(fold,),
            noise=0.5,
            comparison=f"c{fold}",
            data_parameters={"protocol": "unrestricted", "tested_set": fold + 1},
        )
        for fold in range(FOLDS)
    ]
    names = []
    for number, one in enumerate(rows):
        arrays = evaluation(one["folder"])
        known, own = np.unique(arrays["verification/made-up/people"], return_inverse=True)
        names.append([[f"{number}: {known[k]:03}" for k in row] for row in own.reshape(2, -1)])
        arrays["verification/made-up/people"] = own.reshape(2, -1)
        np.savez(one["folder"] / "evaluation.npz", **arrays)
    (setting,) = verified_settings(frame(rows))
    (one,) = setting.rows.itertuples()
    pairs = setting.tested_pairs(one)
    first, second = np.concatenate(names, axis=1)
    assert len({*zip(pairs.people[0], first, strict=True)}) == len(set(pairs.people[0]))
    right = np.random.default_rng(0).random(len(first)) < 0.8
    expected = characteristic(pairs.scores, pairs.same, right, (first, second))
    assert pairs.characteristic(right) == expected
    # One who is many people at once makes the intervals other ones.
    mixed = characteristic(pairs.scores, pairs.same, right, tuple(np.concatenate(own_of(rows), 1)))
    assert mixed.area != expected.area


def own_of(rows):
    """Every cell's people, by its own numbers."""
    return [evaluation(one["folder"])["verification/made-up/people"] for one in rows]


def test_a_protocol_with_cells_missing_has_no_result_and_says_so(tmp_path):
    rows = [
        verified(
            tmp_path,
            seed=seed,
            tested=(fold,),
            comparison=f"c{fold}",
            data_parameters={"tested_set": fold + 1},
        )
        for fold in range(FOLDS)
        for seed in range(2)
    ]
    rows[3] |= {"state": "failed", "verification": None, "verification_accuracy": None}
    accuracy = table(verification(frame(rows)), "verification-accuracy-faces").iloc[0]
    assert accuracy["seeds"] == "1 of 2, 1 incomplete"
    assert "±" not in accuracy["accuracy %"]


def test_nothing_finished_shows_nothing_and_a_failed_run_is_counted(tmp_path):
    assert verification(frame([row(state="failed")])).tables == []
    rows = [verified(tmp_path), row("arcface", state="failed", setting="faces", error=None)]
    accuracy = table(verification(frame(rows)), "verification-accuracy-faces").set_index("head")
    assert accuracy.loc["arcface", "seeds"] == "0 of 1, 1 failed"
    assert accuracy.loc["arcface", "accuracy %"] == "–"


def test_every_set_of_pairs_has_its_own_tables(tmp_path):
    rows = [verified(tmp_path, sets=("lfw", "cfp_fp"), remarks=["17 people left out"])]
    content = verification(frame(rows))
    names = [t.name for t in content.tables if t.name.startswith("verification-accuracy-faces")]
    assert names == ["verification-accuracy-faces-lfw", "verification-accuracy-faces-cfp-fp"]
    assert "faces: lfw: 17 people left out" in content.text


def test_hardest_pairs_are_named(tmp_path):
    rows = [verified(tmp_path, "softmax", seed) for seed in range(2)]
    hardest = table(verification(frame(rows)), "hardest-pairs")
    assert set(hardest["pair of"]) == {"same person", "different people"}
    first = hardest.iloc[0]
    assert first["first"].startswith("Person_")
    assert first["runs"] == "2 of 2"
    expected = rows[0]["verification"][0]["hardest"]["same"][0]
    assert (first["first"], first["second"]) == (expected["first"], expected["second"])
