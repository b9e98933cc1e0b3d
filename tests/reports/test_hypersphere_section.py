"""Main effects and interactions, of errors that are made of known effects."""

from itertools import product

import numpy as np
import pytest
from marginbench.reports.effects import designs, interactions, main_effects
from marginbench.reports.hypersphere import hypersphere

from tests.reports.frames import frame, row

EFFECTS = {"arcface": -2.0, "mhe": -0.5, "sphere": 1.5, "opt": 0.25}
JOINT = {("arcface", "mhe"): 0.75}


def made(*, full=True, seeds=3, noise=0.05, **fields):
    """Errors in percent: 10 + the effects + what two of them do together + a little noise."""
    random = np.random.default_rng(0)
    rows = []
    for seed, *choice in product(
        range(seeds),
        ("softmax", "arcface"),
        (None, "mhe"),
        ("plain", "sphere"),
        ("standard", "opt"),
    ):
        head, regulariser, conv, training = choice
        present = [name for name in (head, regulariser, conv, training) if name in EFFECTS]
        if not full and len(present) > 2:
            continue
        error = 10 + sum(EFFECTS[name] for name in present)
        error += sum(v for pair, v in JOINT.items() if set(pair) <= set(present))
        error += noise * random.standard_normal()
        own = {"regulariser.name": "mhe"} if regulariser else {"regulariser": None}
        rows.append(
            row(
                head,
                seed=seed,
                error=error / 100,
                regulariser=regulariser,
                regulariser_parameters={"power": 2} if regulariser else None,
                backbone_parameters={"conv": conv, "angular": "cosine"},
                training=training,
                conditions={**own, "training.kind": training},
                **fields,
            )
        )
    return rows


@pytest.mark.parametrize("full", [True, False])
def test_the_effects_that_the_errors_are_made_of_are_found(full):
    (design,) = designs(frame(made(full=full, noise=1e-6)))
    assert design.levels == {
        "head": ["softmax", "arcface"],
        "regulariser": ["none", "mhe"],
        "convolution": ["plain", "sphere cosine"],
        "training": ["standard", "opt"],
    }
    effects = main_effects(design).set_index("level")
    alone = {level: effects.loc[level, "alone"] for level in effects.index}
    assert alone == pytest.approx(
        {"arcface": -2, "mhe": -0.5, "sphere cosine": 1.5, "opt": 0.25}, abs=1e-4
    )
    pairs = interactions(design)
    assert len(pairs) == 6
    found = {(row.level, row.other_level): row.interaction for row in pairs.itertuples()}
    assert found.pop(("arcface", "mhe")) == pytest.approx(0.75, abs=1e-4)
    assert list(found.values()) == pytest.approx([0] * 5, abs=1e-4)
    # In the whole grid a main effect is alone plus half of the interactions.
    if full:
        assert effects.loc["arcface", "effect"] == pytest.approx(-2 + 0.75 / 2, abs=1e-4)
        assert effects.loc["opt", "effect"] == pytest.approx(0.25, abs=1e-4)


def test_intervals_hold_the_effects_and_claims_are_corrected():
    (design,) = designs(frame(made(seeds=6)))
    effects = main_effects(design).set_index("level")
    assert (effects["low"] < effects["effect"]).all()
    assert effects.loc["sphere cosine", "low"] < 1.5 < effects.loc["sphere cosine", "high"]
    assert effects.loc["arcface", "p"] < 1e-4
    pairs = interactions(design)
    decided = pairs[pairs["p"] <= 0.05]
    assert [(row.level, row.other_level) for row in decided.itertuples()] == [("arcface", "mhe")]


def test_the_section_shows_them():
    content = hypersphere(frame(made(full=False, seeds=6)))
    (text,), (table,) = content.text, content.tables
    assert text.startswith(
        "mnist, mnist: 11 of 16 combinations have finished runs; the baseline is"
    )
    assert "softmax, none, plain, standard" in text
    forest, heat_map = content.figures
    cells = table.frame.set_index("level")
    assert cells.loc["arcface", "alone"].startswith("-2.")
    assert cells.loc["mhe", "seeds"] == "6"
    axis = heat_map.figure.axes[0]
    drawn = [text.get_text() for text in axis.texts if text.get_text()]
    assert len(drawn) == 6
    assert sum(text.endswith("*") for text in drawn) == 1
    names = [tick.get_text() for tick in forest.figure.axes[0].get_yticklabels()]
    assert names[0] == "head: arcface"


def test_an_incomplete_grid_shows_what_it_tells():
    """Without the runs of one part alone, and with one seed: no interval, and no failure."""
    rows = [r for r in made(full=False, seeds=1) if r["training"] == "standard"]
    rows = [r for r in rows if (r["head"], r["regulariser"]) != ("softmax", "mhe")]
    content = hypersphere(frame(rows))
    (table,) = content.tables
    cells = table.frame.set_index("level")
    assert cells.loc["mhe", "alone"] == "–"
    assert set(table.frame["95 % interval"]) == {"–"}
    (heat_map,) = content.figures
    assert len(heat_map.data) == 1


def test_experiments_that_differ_otherwise_are_kept_apart():
    rows = [*made(full=False), *made(full=False, learning_rate=0.2)]
    assert len(designs(frame(rows))) == 2
    assert designs(frame([row(), row("arcface")])) == []
    assert hypersphere(frame([row(state="failed")])).tables == []
