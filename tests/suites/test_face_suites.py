"""The face suites: what they declare, and a ten-set protocol from files to one result."""

import pytest
from marginbench.reports.paper_numbers import published_table
from marginbench.reports.verification import verification

from marginbench.experiments.cell_fields import Schedule, Verification
from marginbench.experiments.grids import component, grid
from marginbench.experiments.resolution import resolve_cell
from marginbench.experiments.suites import find_suite
from marginbench.reporting.verification_results import verified_settings
from marginbench.runs.results import results
from marginbench.runs.suite_runs import SuiteRun
from tests.conftest import train_cell
from tests.data.lfw_files import write_lfw


def heads(cells):
    return {(cell.head.name, cell.head.parameters.get("m")) for cell in cells}


def test_lfw_has_ten_cells_a_head_and_seed_under_one_name():
    for size, seeds in (("full", 3), ("small", 1)):
        cells = find_suite("lfw").cells(size=size)
        assert len({cell.setting for cell in cells}) == 1
        by_run = {}
        for cell in cells:
            run = (cell.head.model_dump_json(), cell.seed)
            by_run.setdefault(run, []).append(cell.data.parameters["tested_set"])
        assert all(sets == list(range(1, 11)) for sets in by_run.values())
        assert {cell.seed for cell in cells} == set(range(seeds))


def test_the_rows_asked_for_are_there():
    wanted = {
        ("softmax", None),
        ("contrastive", None),
        ("triplet", None),
        *(("l-softmax", m) for m in (2, 3, 4)),
        ("a-softmax", 4),
        ("am-softmax", 0.35),
        ("arcface", 0.5),
    }
    for name in ("lfw", "lfw-view1", "webface"):
        assert heads(find_suite(name).cells(1)) == wanted
    small = {name for name, _ in heads(find_suite("lfw-view1").cells(1, "small"))}
    assert small == {"softmax", "contrastive", "l-softmax", "am-softmax", "arcface"}


@pytest.mark.parametrize("name", ["lfw", "lfw-view1", "webface"])
def test_cells_of_a_comparison_differ_in_head_and_seed_alone(name):
    cells = find_suite(name).cells(2)
    for other in cells:
        first = next(cell for cell in cells if cell.data == other.data)
        assert first.comparison == other.comparison


def test_webface_claims_table_5_and_follows_a_plateau_without_lfws_people():
    (setting,) = {cell.setting for cell in find_suite("webface").cells()}
    assert published_table(setting).name == "Table 5"
    cell = find_suite("webface").cells()[0]
    assert cell.schedule.plateau_patience > 0
    assert (cell.schedule.factor, cell.schedule.plateau_cuts) == (0.1, 2)
    assert cell.data.parameters["exclude"] == ["lfw"]
    # About 30 epochs of WebFace's 490,000 images.
    images = cell.schedule.iterations * cell.schedule.batch_size
    assert images / 490_000 == pytest.approx(30, rel=0.01)


def test_small_lambda_reaches_its_floor_half_way():
    for cell in find_suite("lfw-view1").cells(1, "small"):
        if cell.head.name == "l-softmax":
            given = cell.head.parameters
            half = cell.schedule.iterations / 2
            course = given["lambda_base"] * (1 + given["lambda_gamma"] * half) ** (
                -given["lambda_power"]
            )
            assert course == pytest.approx(given["lambda_min"], rel=0.02)


def test_ten_trainings_make_one_result(tmp_path, monkeypatch):
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    write_lfw(tmp_path / "data" / "lfw")
    cells = [
        resolve_cell(cell)
        for tested in range(1, 11)
        for cell in grid(
            setting="made-up LFW",
            data=component(
                "lfw", protocol="unrestricted", tested_set=tested, size=16, crop=40, colour="grey"
            ),
            backbone=component("small", widths=[8], features=8),
            head="softmax",
            schedule=Schedule(
                iterations=60, batch_size=16, evaluations=1, sampling="pairs", samples_per_class=2
            ),
            verification=Verification(mirror="concatenate", centre=True, dimensions=2),
            seed=0,
        )
    ]
    suite = find_suite("lfw")
    folders = []
    for cell in cells:
        result, folder = train_cell(cell, tmp_path / "runs")
        assert result["test_error"] is None
        assert list(result["verification"][0]["folds"]) == [
            str(cell.data.parameters["tested_set"] - 1)
        ]
        folders.append(folder)
    frame = results(SuiteRun(suite, tmp_path / "runs", folders, len(folders)))
    (setting,) = verified_settings(frame)
    (row,) = setting.done().itertuples()
    assert len(row.entries) == 10
    assert len(setting.tested_pairs(row).scores) == 10 * 4
    content = verification(frame)
    assert "10 trainings a head and seed" in content.tables[0].caption
    assert [dimension for dimension, _ in row.entries[0]["by_dimension"]][:3] == [1, 2, 4]
