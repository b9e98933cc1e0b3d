"""The study's page, on made results whose answer is known; and the commands that it is made by."""

import random
import re
import shutil

import pandas as pd
import pytest

from benchmarks.study import FEWER, SUITES, commands, whole
from benchmarks.study import main as study
from benchmarks.study_answer import answer_figure, answer_table, best_first
from benchmarks.study_details import NAME, seeds_table
from benchmarks.study_page import write_page
from benchmarks.study_questions import rank_correlations, won_and_lost
from benchmarks.study_results import Measured, keep, kept, measured
from marginbench.command_line import main
from marginbench.errors import DamagedFile
from marginbench.experiments.suites import find_suite
from marginbench.reporting.verdicts import verdicts
from marginbench.runs.open_tuned import open_tuned, reopen_tuned
from marginbench.runs.suite_runs import open_suite
from tests.reporting.made_verdicts import made_verdicts
from tests.reports.frames import frame, row, verified
from tests.runs.made_runs import write_run

SEEDS = 10


def error(cell, gain):
    """l-softmax errs less by ``gain``."""
    noise = random.Random(f"{cell.head.name} {cell.seed}").gauss(0, 0.002)
    return 0.2 - (gain if cell.head.name == "l-softmax" else 0) + noise


@pytest.fixture
def runs(tiny_suite, tmp_path):
    """Search, own values and softmax of fewer trials, all ended."""
    name, folder = str(tiny_suite), tmp_path / "runs"
    for place, trials, only in ((folder, 4, ()), (folder / FEWER, 3, ("softmax",))):
        for _ in range(2):
            # First the trials, then the final runs of what they choose.
            run = open_tuned(name, place, trials=trials, seeds=SEEDS, only=only)
            run.folder.mkdir(parents=True, exist_ok=True)
            run.record()
            # As luck has it, what fewer trials choose is better by three points.
            luck = 0.03 if place.name == FEWER else 0.0
            for one in run.runs:
                if not (one.path / "result.json").exists():
                    write_run(one, error(one.cell, 0.02) - luck)
    own = open_suite(name, folder)
    own.folder.mkdir()
    own.record()
    for one in own.runs:
        write_run(one, error(one.cell, 0.0) + 0.05)
    return folder


def test_the_page_says_who_won_what_tuning_gave_and_what_fewer_trials_would_say(
    runs, tiny_suite, tmp_path
):
    target = tmp_path / "study"
    found, missing = whole([str(tiny_suite), "study-digits"], runs, target)
    assert missing == ["study-digits"]
    page = write_page(found, missing, target).read_text()
    details = (target / NAME).read_text()
    assert "Not whole yet, and not here: study-digits." in page
    assert re.search(r"\| l-softmax +\| −1\.88 better +\|", page)
    assert "1 of 1 comparison decided, with 10 seeds" in page
    assert "**better**: softmax 19.94 % → l-softmax 18.06 %, −1.88 [" in details
    assert "| softmax" in details
    assert "18.06 (better)" in details
    # Own values err 5 points more, and l-softmax 2 more besides.
    gains = details.partition("## What tuning gave")[2].partition("## Had")[0]
    assert re.search(r"\| softmax +\| −5\.00 +\|", gains)
    assert re.search(r"\| l-softmax +\| −7\.00 +\|", gains)
    assert "Where the interval says so" not in gains
    # The same change for all seeds has no interval.
    assert "0 of 2 comparisons gain on the test and 0 lose" in page
    assert "0 of 1 comparisons over ten seeds are won against it" in page
    assert "with sixteen trials for both, 1. Verdicts that differ: 1." in page
    assert "(test error): better → worse." in details
    assert "No closed and open set are both whole yet." in page
    assert {"answer.png", "forest.png"} <= {path.name for path in target.glob("*.png")}
    search = (target / f"searches/{tiny_suite.stem}.md").read_text()
    assert "| l-softmax" in search
    assert ".png)" in search
    assert "Searched again" not in page
    # The same page once the runs are gone.
    shutil.rmtree(runs)
    found, missing = whole([str(tiny_suite), "study-digits"], runs, target)
    assert write_page(found, missing, target).read_text() == page
    assert (target / NAME).read_text() == details


def test_a_data_set_with_a_run_to_go_is_not_whole(runs, tiny_suite, tmp_path):
    run = reopen_tuned(str(tiny_suite), runs)
    (run.runs[-1].path / "result.json").unlink()
    one = measured(str(tiny_suite), runs, runs / FEWER)
    assert not one.is_whole
    assert whole([str(tiny_suite)], runs, tmp_path / "study") == ([], [str(tiny_suite)])


@pytest.mark.parametrize("suite", SUITES)
def test_every_command_of_the_study_is_one(suite, tmp_path):
    find_suite(suite)
    for verb, *arguments in commands(suite, tmp_path):
        context = main.commands[verb].make_context(verb, arguments)
        assert context.params["suite"] == suite


def test_a_data_set_that_the_study_has_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        study(["digits"])
    assert "'digits' is not of the study; allowed: study-digits, " in capsys.readouterr().err


def test_what_is_kept_of_closed_and_open_sets_makes_the_same_verdicts(tmp_path):
    numbers = random.Random(0)
    heads = ("softmax", "arcface")
    closed = [row(h, None, s, numbers.random()) for h in heads for s in range(6)]
    lost = row("hinge", None, 0, None, state="diverged")
    opened = [verified(h, s, numbers.random()) for h in heads for s in range(6)]
    made = frame([*closed, lost, *opened])
    file = tmp_path / "study-made.csv"
    keep(Measured("study-made", made, made[:12], made[:0]), file)
    again = kept(file)
    assert (again.suite, len(again.own), len(again.fewer)) == ("study-made", 12, 0)
    assert again.tuned["state"].tolist() == made["state"].tolist()
    expected, found = verdicts(made), verdicts(again.tuned)
    assert {"test_error", "verification_accuracy", "map_at_r", "one_shot_error"} == set(
        expected["measure"]
    )
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_an_open_set_is_told_by_what_it_asks(tmp_path):
    """The classes that it was trained on are not its question."""
    numbers = random.Random(1)
    heads = ("softmax", "arcface", "hinge")
    closed = [row(h, None, s, numbers.random()) for h in heads for s in range(10)]
    value = {"softmax": 0.5, "arcface": 0.6, "hinge": 0.7}
    opened = [
        verified(h, s, value[h] + numbers.random() / 50, test_error=s / 100)
        for h in heads
        for s in range(10)
    ]
    made = frame([*closed, *opened])
    own = made.assign(test_error=made["test_error"] - numbers.random() * (made["seed"] + 1))
    one = Measured("study-made", made, own, made[made["head"] == "softmax"])
    page = write_page([one], [], tmp_path).read_text()
    details = (tmp_path / NAME).read_text()
    assert "- open: verification accuracy against softmax, 10 seeds\n  - **bett" in details
    short = page.partition("## The answer")[2].partition("![")[0]
    assert (
        "- **Closed sets** (1 data set, test error): better than softmax on none. Worse on none."
        in short
    )
    assert (
        "- **Open sets** (1 data set, verification accuracy): better than softmax "
        "on 1: arcface, hinge. Worse on none." in short
    )
    assert "**Open sets** (1 data set, MAP@R): " in short
    assert "open: test error" not in page + details
    assert "MNIST (Table 2): test error" in page
    gains = details.partition("## What tuning gave")[2].partition("## Had")[0]
    told = "Where the interval says so: MNIST (Table 2): test error: softmax, arcface, hinge."
    assert told in gains
    assert "0 of 12 comparisons gain on the test and 3 lose" in page
    shared = page.partition("**Closed and open sets.**")[2]
    assert "of 2 comparisons are won and" in shared
    assert "in verification on open ones 2 of 2 comparisons are won and 0 lost." in shared
    orders = details.partition("## Closed and open sets")[2]
    assert re.search(r"\| MNIST \(Table 2\) +\| open: verification accuracy +\|", orders)
    assert "| open  " not in orders
    seeds = details.partition("## How many seeds")[2].partition("## Closed")[0]
    assert re.search(r"\| open +\| 2 of 2 heads", seeds)


def test_a_diverged_head_is_not_decided_and_its_seeds_are_not_counted():
    found = seeds_table(made_verdicts().assign(decides=True)).set_index("data set")
    assert found.loc["ten digits"].tolist() == [
        *("3 of 6 heads", "10", "arcface m=0.3", "magface", "triplet")
    ]
    assert found.loc["2-D"].tolist() == ["0 of 2 heads", "–", "hinge, arcface m=0.1", "", ""]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\x00"])
def test_a_damaged_file_of_kept_runs_is_named(content, tmp_path):
    file = tmp_path / "study-made.csv"
    file.write_text(content)
    with pytest.raises(DamagedFile, match=r"study-made\.csv.*no file of `make study`"):
        kept(file)


def test_wins_are_told_of_each_data_set():
    numbers = random.Random(2)

    def closed(setting, arcface):
        errors = {"softmax": 0.5, "arcface": arcface, "hinge": 0.5}
        rows = [
            row(h, None, s, e + numbers.random() / 50) for h, e in errors.items() for s in range(10)
        ]
        return frame(rows).assign(setting=setting, comparison=setting)

    heads = ("softmax", "arcface", "hinge")
    opened = frame([verified(h, s, 0.5 + numbers.random() / 50) for h in heads for s in range(10)])
    every = pd.concat([closed("one", 0.4), closed("two", 0.6), opened], ignore_index=True)
    decided = verdicts(every)
    told = won_and_lost(decided, "test_error")
    assert told == "1 of 4 comparisons are won and 1 lost (one: 1 and 0; two: 0 and 1)"
    told = won_and_lost(decided, "verification_accuracy")
    assert told == "0 of 2 comparisons are won and 0 lost"


def test_orders_of_heads_are_compared_by_their_means_and_corrected():
    """Made so that the order on the open set is that of "one", and the reverse of "two"."""
    heads = ("softmax", "arcface", "hinge", "triplet", "circle")

    def closed(setting, sign):
        rows = [row(h, None, s, 0.5 + sign * n / 10) for n, h in enumerate(heads) for s in (0, 1)]
        return frame(rows).assign(setting=setting, comparison=setting)

    opened = frame([verified(h, s, 0.9 - n / 10) for n, h in enumerate(heads) for s in (0, 1)])
    every = pd.concat([closed("one", 1), closed("two", -1), opened], ignore_index=True)
    found = rank_correlations(
        every.assign(test_error=every["test_error"].where(every["verification_accuracy"].isna()))
    )
    found = found[found["measure"] == "verification_accuracy"].set_index("closed")
    assert found["rho"].round(9).to_dict() == {"one": 1.0, "two": -1.0}
    assert (found["p_corrected"] >= found["p"]).all()
    assert (found["heads"] == 5).all()


def test_the_answer_has_a_row_a_head_the_one_that_wins_most_first():
    decided = made_verdicts()
    decided = decided[decided["setting"] != "2-D"]
    assert best_first(decided) == [
        "l-softmax m=3",
        "hinge",
        "arcface m=0.3",
        "contrastive",
        "magface",
        "triplet",
    ]
    table = answer_table(decided).set_index("head")
    assert table.columns.tolist() == ["ten digits: test error", "open set: verification accuracy"]
    assert table.loc["l-softmax m=3"].tolist() == ["−0.85 better", "−5.00"]
    assert table.loc["hinge"].tolist() == ["+0.30 worse", "+2.00 better"]
    assert table.loc["triplet"].tolist() == ["diverged", "–"]


def test_a_head_too_far_away_is_an_arrow_and_leaves_the_others_their_room():
    decided = made_verdicts()
    decided = decided[decided["setting"] == "open set"]
    (axis,) = answer_figure(decided).figure.axes
    assert not axis.texts
    moved = decided["label"] == "l-softmax m=3"
    decided.loc[moved, ["difference", "low", "high"]] = [-0.2, -0.201, -0.199]
    (axis,) = answer_figure(decided).figure.axes
    assert [text.get_text() for text in axis.texts] == ["← −20"]
    assert axis.get_xlim()[0] > -1
    # Around zero is not far away, however wide.
    decided.loc[moved, ["difference", "low", "high"]] = [0.01, -0.2, 0.22]
    (axis,) = answer_figure(decided).figure.axes
    assert not axis.texts
    assert axis.get_xlim()[1] > 22
    one_seed = made_verdicts()
    assert answer_figure(one_seed[one_seed["setting"] == "2-D"]) is None


def test_a_second_search_is_told_by_the_verdicts_that_it_changed(tmp_path):
    numbers = random.Random(3)

    def measured_with(arcface):
        errors = {"softmax": 0.5, "arcface": arcface, "hinge": 0.6}
        rows = [
            row(h, None, s, e + numbers.random() / 50) for h, e in errors.items() for s in range(10)
        ]
        made = frame(rows)
        return Measured("study-made", made, made, made[made["head"] == "softmax"])

    file = tmp_path / "again" / "study-made.csv"
    keep(measured_with(0.6), file)
    page = write_page([measured_with(0.4)], [], tmp_path).read_text()
    told = page.partition("**Searched again.**")[2].partition("\n")[0]
    assert "MNIST (Table 2), search and final runs once more from nothing" in told
    assert "[runs](again/study-made.csv)" in told
    assert re.search(r": 1 of 2 verdicts the same; arcface better −\S+ → worse \+\S+\.$", told)
    # Damaged, it is named before anything is written.
    file.write_text("a,b\n")
    (tmp_path / NAME).unlink()
    with pytest.raises(DamagedFile, match=r"again/study-made\.csv"):
        write_page([measured_with(0.4)], [], tmp_path)
    assert (tmp_path / "README.md").read_text() == page
    assert not (tmp_path / NAME).exists()
