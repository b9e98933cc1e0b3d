"""A protocol's cells put together, and what is missing of them."""

import json

import numpy as np
import pytest
from marginbench.reports.methods import methods
from marginbench.reports.verification import verification

from marginbench.evaluation.receiver_operating import characteristic
from marginbench.reporting.verification_results import verified_settings
from marginbench.runs.results import evaluation
from tests.evaluation.test_verification_evaluation import EACH, FOLDS
from tests.reports.frames import frame
from tests.reports.verified_runs import table, verified


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
    told = methods(frame(rows)).text
    assert f"Images of faces (the first of {FOLDS} that differ): set 1 is tested" in told
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
