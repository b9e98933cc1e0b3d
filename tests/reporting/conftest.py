"""The trained suite, and its report."""

import pytest

from marginbench.reporting.page import write_report
from marginbench.runs.results import results
from tests.conftest import train_cell
from tests.reporting.trained_suite import run_of, suite_of, trained_cells


@pytest.fixture(scope="session")
def trained(made_once):
    """The suite's folder and its cells."""
    cells = trained_cells()

    def make(folder):
        for cell in cells:
            result, _ = train_cell(cell, folder)
            assert result["outcome"] == "finished", result["reason"]

    return made_once("trained", make), cells


@pytest.fixture(scope="session")
def written(trained, tmp_path_factory):
    folder, cells = trained
    frame = results(run_of(folder, cells))
    out = tmp_path_factory.mktemp("report")
    return write_report(frame, suite_of(cells), out), out
