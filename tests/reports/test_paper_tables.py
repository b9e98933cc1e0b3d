"""The paper's tables with ours beside: every printed number, and when a difference counts."""

import pytest
from marginbench.reports.paper_numbers import SMALL_NOTE, TABLES, published_table
from marginbench.reports.paper_tables import apart, published

from marginbench.experiments.suites import find_suite
from tests.reports.frames import frame, row

# Typed again from the paper, hinge, softmax, L-Softmax m = 2, 3, 4.
PRINTED = {
    "MNIST (Table 2)": [0.47, 0.40, 0.32, 0.31, 0.31],
    "CIFAR10 (Table 3)": [9.91, 9.05, 7.73, 7.66, 7.58],
    "CIFAR10+ (Table 3)": [6.96, 6.50, 6.01, 5.94, 5.92],
    "CIFAR100 (Table 4)": [32.90, 32.74, 29.95, 29.87, 29.53],
}
KEYS = [("hinge", 1), ("softmax", 1), *(("l-softmax", m) for m in (2, 3, 4))]


@pytest.mark.parametrize("setting", PRINTED)
def test_the_papers_own_numbers(setting):
    assert TABLES[setting].own == dict(zip(KEYS, PRINTED[setting], strict=True))


@pytest.mark.parametrize(
    ("setting", "count", "total"),
    [
        ("MNIST (Table 2)", 8, 0.53 + 0.57 + 0.51 + 0.47 + 0.45 + 0.39 + 0.31 + 0.31),
        ("CIFAR10 (Table 3)", 9, 9.41 + 10.47 + 11.68 + 9.69 + 9.08 + 8.69 + 7.62),
        ("CIFAR10+ (Table 3)", 9, 9.32 + 8.39 + 8.81 + 9.38 + 7.97 + 7.25 + 7.09 + 6.43 + 6.05),
        ("CIFAR100 (Table 4)", 8, 35.04 + 35.68 + 38.57 + 34.57 + 33.78 + 33.71 + 31.75 + 32.37),
    ],
)
def test_the_rows_of_other_papers(setting, count, total):
    others = TABLES[setting].others
    assert len(others) == count
    assert sum(row.value or 0 for row in others) == pytest.approx(total)


def test_table_5():
    table = TABLES["LFW, outside data (Table 5)"]
    keys = [("softmax", 1), ("contrastive", 1), *(("l-softmax", m) for m in (2, 3, 4))]
    assert table.own == dict(zip(keys, [96.53, 97.31, 97.81, 98.27, 98.71], strict=True))
    assert [row.value for row in table.others] == [99.65, 98.95, 98.70, 97.73, 98.43]


def test_table_5_counts_verification_accuracy():
    fields = {"setting": "LFW, outside data (Table 5)"}
    rows = [
        row(seed=seed, error=None, verification_accuracy=value, train_error=0.0, **fields)
        for seed, value in enumerate((0.9652, 0.9654, 0.9656))
    ]
    content = published(frame(rows))
    ours = cells_of(content, "softmax")
    assert ours["our verification accuracy %"] == "96.54 ± 0.02"
    assert ours["published verification accuracy %"] == "96.53"
    assert ours["ours − published"] == "+0.01 (within the seeds)"


@pytest.mark.parametrize(
    ("suite", "setting"),
    [
        ("mnist", "MNIST (Table 2)"),
        ("cifar10", "CIFAR10 (Table 3)"),
        ("cifar10+", "CIFAR10+ (Table 3)"),
        ("cifar100", "CIFAR100 (Table 4)"),
        ("fig2", "MNIST, 2-D features (Fig. 2)"),
    ],
)
def test_suites_claim_their_table_and_have_its_rows(suite, setting):
    for size, note in (("full", ""), ("small", SMALL_NOTE)):
        cells = find_suite(suite).cells(1, size)
        assert {cell.setting for cell in cells} == {setting + note}
        heads = {(cell.head.name, cell.head.parameters.get("m", 1)) for cell in cells}
        assert set(published_table(setting + note).own) <= heads


def mnist_rows(errors, **fields):
    return [
        row(head, m if head == "l-softmax" else None, seed, error / 100, **fields)
        for (head, m), values in errors.items()
        for seed, error in enumerate(values)
    ]


def cells_of(content, method):
    table = content.tables[0].frame.set_index("method")
    return table.loc[method]


def test_ours_stand_beside_the_papers():
    errors = {
        ("softmax", 1): [0.41, 0.39, 0.43],
        ("l-softmax", 2): [0.52, 0.53, 0.54],
        ("arcface", 1): [0.40, 0.40, 0.40],
    }
    content = published(frame(mnist_rows(errors)))
    assert cells_of(content, "NiN")["published error %"] == "0.47"
    assert cells_of(content, "NiN")["source"] == "Lin et al., 2014"
    softmax = cells_of(content, "softmax")
    assert softmax["published error %"] == "0.40"
    assert softmax["our error %"] == "0.41 ± 0.02"
    assert softmax["ours − published"] == "+0.01 (within the seeds)"
    assert cells_of(content, "l-softmax m=2")["ours − published"] == "+0.21 †"
    assert cells_of(content, "arcface")["source"] == "beyond the paper"
    assert cells_of(content, "arcface")["published error %"] == ""
    (text,) = content.text
    assert "More than the seeds explain lies between ours and l-softmax m=2" in text
    assert "within what the seeds explain: softmax" in text
    assert "Unlike in the paper, not better than softmax in the mean: l-softmax m=2." in text
    assert "3 rows of the paper's without a finished run" in text


def test_a_small_size_is_not_measured_against_the_paper():
    errors = {("softmax", 1): [5, 6, 7], ("l-softmax", 2): [4, 5, 6]}
    content = published(frame(mnist_rows(errors, setting="MNIST (Table 2), small size")))
    assert cells_of(content, "softmax")["ours − published"] == ""
    assert "not comparable" in content.tables[0].caption
    assert "seeds" not in content.text[0].split("As in the paper")[0]


def test_accuracies_are_counted_as_figure_2_prints_them():
    rows = [row("softmax", None, 0, 0.02), row("l-softmax", 4, 0, 0.01)]
    for values in rows:
        values["setting"] = "MNIST, 2-D features (Fig. 2)"
    content = published(frame(rows))
    assert cells_of(content, "l-softmax m=4")["published accuracy %"] == "99.34"
    assert cells_of(content, "l-softmax m=4")["our accuracy %"] == "99.00"
    assert "As in the paper, the mean of every L-Softmax here is better" in content.text[0]


def test_an_unfinished_grid_and_an_unknown_setting():
    waiting = row(state="not started", test_error=None, train_error=None)
    content = published(frame([waiting]))
    assert cells_of(content, "softmax")["our error %"] == "–"
    assert cells_of(content, "softmax")["seeds"] == "0 of 1"
    assert "no run of the paper's rows has finished" in content.text[0]
    assert published(frame([row(setting="mine")])).tables == []


def test_what_the_seeds_explain():
    # mean 1, standard deviation 0.1, n = 3: 4.3027 · 0.1 · √(4/3) = 0.4968, and 0.005 of rounding.
    values = [0.9, 1.0, 1.1]
    assert apart(values, 1.50, 2) is False
    assert apart(values, 1.503, 2) is True
    assert apart(values, 0.497, 2) is True
    assert apart([0.9, 1.1], 5.0, 2) is None
    assert apart([1.0, 1.0, 1.0], 5.0, 2) is None
