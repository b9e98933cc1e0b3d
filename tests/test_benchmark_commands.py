"""The commands around the benchmarks: table1, --size, --data, and data checked first."""

import os

import numpy as np
import pytest
from click.testing import CliRunner

from marginbench.command_line import main
from marginbench.data.files.content import _key_once

SUITE = """
from marginbench import Schedule, component, grid, suite


@suite("own-images", seeds=2, sizes={"small": 1}, sections=["comparison"])
def own(seeds, size):
    iterations = 30 if size == "full" else 10
    return grid(
        data=component("npz", name="own.npz", size=8),
        backbone=component("small", widths=[4], features=4),
        head=["softmax", "hinge"],
        schedule=Schedule(
            iterations=iterations, batch_size=8, evaluations=2, augmentation="crop-flip"
        ),
        seed=seeds,
    )
"""


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory):
    """One file for all tests here: a process knows a suite by the file that it came from."""
    path = tmp_path_factory.mktemp("suite") / "own.py"
    path.write_text(SUITE)
    return path


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    _key_once.cache_clear()
    (tmp_path / "data").mkdir()
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "data" / "own.npz",
        x_train=random.integers(0, 256, (24, 6, 6, 3), dtype=np.uint8),
        y_train=np.tile([0, 1, 2], 8),
        x_test=random.integers(0, 256, (6, 6, 6, 3), dtype=np.uint8),
        y_test=np.tile([0, 1, 2], 2),
    )
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def test_table1_prints_networks_with_parameters_and_macs(invoke):
    result = invoke("table1")
    assert result.exit_code == 0
    for text in (
        "mnist: images of 1×28×28, 597,440 parameters, 114.5 million",
        "cifar10: images of 3×32×32, 1,535,232 parameters, 266.5 million",
        "cifar100: images of 3×32×32, 9,296,576 parameters, 940.1 million",
    ):
        assert text in result.output
    assert "lfw" not in invoke("table1", "mnist-fig2").output
    refusal = invoke("table1", "resnet")
    assert refusal.exit_code == 1
    assert "unknown network 'resnet'; Table 1 has: cifar10, cifar100" in refusal.output


def test_a_size_runs_in_a_folder_of_its_own_with_its_own_seeds(invoke, suite_file, tmp_path):
    options = ("--data", "data", "--runs", "runs", "--dry-run")
    assert "own-images: 4 cells, 0 finished, 4 to run" in invoke("run", suite_file, *options).output
    small = invoke("run", suite_file, *options, "--size", "small")
    assert "own-images: 2 cells, 0 finished, 2 to run" in small.output
    wrong = invoke("run", suite_file, *options, "--size", "tiny")
    assert wrong.exit_code == 1
    assert "size = 'tiny' is not allowed; allowed: full, small" in wrong.output


def test_missing_data_is_reported_with_the_folder_that_was_looked_in(invoke, suite_file, tmp_path):
    result = invoke("run", suite_file, "--runs", "runs")
    assert result.exit_code == 1
    assert str(tmp_path / "nowhere" / "own.npz") in result.output
    assert "--data" in result.output


def test_damaged_data_is_reported_before_any_training(invoke, suite_file, tmp_path):
    np.savez(tmp_path / "data" / "own.npz", x_train=np.zeros(3))
    result = invoke("run", suite_file, "--runs", "runs", "--data", "data")
    assert result.exit_code == 1
    assert "own.npz' holds x_train; allowed" in result.output
    assert not list((tmp_path / "runs").glob("own-images/*/cell.json"))


def test_a_users_own_images_are_trained_on_and_moved_data_keep_their_runs(
    invoke, suite_file, tmp_path
):
    options = (suite_file, "--runs", "runs", "--size", "small")
    first = invoke("run", *options, "--data", "data", "--workers", "1")
    assert first.exit_code == 0, first.output
    assert (tmp_path / "runs" / "own-images-small" / "report" / "index.html").exists()
    assert os.environ["MARGINBENCH_DATA"] == str(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "moved")
    _key_once.cache_clear()
    again = invoke("run", *options, "--data", "moved")
    assert "own-images: 2 cells, 2 finished, 0 to run" in again.output
