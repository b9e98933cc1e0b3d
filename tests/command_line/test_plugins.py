"""Heads of others: in a file, and in a real installed package."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = '''
import torch

from marginbench.heads import CosineHead, register_head
from marginbench.plugins.parameters import NonNegative, Positive


@register_head("NAME")
class Mine(CosineHead):
    """A margin that grows with the angle."""

    formula = "s(cos θ − m(1 − cos θ))"
    paper = "mine"

    def __init__(
        self, in_features: int, num_classes: int, *, m: NonNegative = 0.2, s: Positive = 12.0
    ) -> None:
        super().__init__(in_features, num_classes, s=s)
        self.m = m

    def psi(self, cosine: torch.Tensor) -> torch.Tensor:
        return cosine - self.m * (1 - cosine)
'''


def test_a_head_in_a_file_becomes_a_row(marginbench, tiny_suite, tmp_path, scratch_registry):
    plugin = tmp_path / "my_head.py"
    plugin.write_text(HEAD.replace("NAME", "mine"))
    listing = marginbench("heads", "mine", "--plugin", plugin)
    assert "s(cos θ − m(1 − cos θ))" in listing.stdout
    assert "m = 0.2   (number ≥ 0)" in listing.stdout
    own = ["--plugin", plugin, "--head", "mine:m=0.1", "--seeds", 1]
    done = marginbench("run", tiny_suite, *own)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "runs/tiny/report/comparison-tiny.csv").read_text()
    assert "mine m=0.1," in table
    assert "softmax," in table


def test_a_name_that_is_taken_is_refused_and_tells_the_file(marginbench_process, tmp_path):
    plugin = tmp_path / "my_head.py"
    plugin.write_text(HEAD.replace("NAME", "arcface"))
    done = marginbench_process("heads", "--plugin", plugin)
    assert done.returncode == 1
    assert "'arcface' is registered twice" in done.stderr
    assert "my_head.py" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="session")
def packages(tmp_path_factory) -> Path:
    """A folder with two really installed packages: one with a head, one that does not import."""
    folder = tmp_path_factory.mktemp("packages")
    target = folder / "installed"
    for name, content in (
        ("other_package", HEAD.replace("NAME", "others")),
        ("broken_package", "import nothing_of_that_name\n"),
    ):
        project = folder / name
        project.mkdir()
        (project / f"{name}.py").write_text(content)
        (project / "pyproject.toml").write_text(
            "[build-system]\nrequires = ['setuptools']\n"
            "build-backend = 'setuptools.build_meta'\n"
            f"[project]\nname = '{name}'\nversion = '1.0'\n"
            f"[project.entry-points.'marginbench.heads']\n{name} = '{name}'\n"
            f"[tool.setuptools]\npy-modules = ['{name}']\n"
        )
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--no-build-isolation", "--target", str(target), str(project)]
        subprocess.run(command, check=True, capture_output=True)
    return target


def test_a_head_of_an_installed_package_is_found(marginbench_process, packages, tiny_suite):
    listing = marginbench_process("heads", "others", PYTHONPATH=str(packages))
    assert listing.returncode == 0, listing.stderr
    assert "s(cos θ − m(1 − cos θ))" in listing.stdout
    only = ["--head", "others", "--only", "others", "--seeds", 1, "--no-report"]
    done = marginbench_process("run", tiny_suite, *only, PYTHONPATH=str(packages))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done digits-small-others-m0.2-seed0" in done.stdout


def test_a_package_that_does_not_import_is_named_and_costs_only_itself(
    marginbench_process, packages
):
    listing = marginbench_process("heads", PYTHONPATH=str(packages))
    assert listing.returncode == 0
    assert "'broken_package'" in listing.stderr
    assert "ModuleNotFoundError" in listing.stderr
    assert "arcface" in listing.stdout


CURSED = """
from torch import nn

from marginbench import Schedule, grid, register_backbone, suite


class Cursed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 4)

    def forward(self, images):
        if len(images) == 32:
            raise RuntimeError("a batch of 32 is cursed")
        return self.linear(images.flatten(1))


@register_backbone("cursed")
def cursed(image_shape):
    return Cursed()


@suite("cursed", description="fails in every cell", seeds=2)
def suite_of_cursed(seeds):
    return grid(
        data="digits",
        backbone="cursed",
        head=["softmax", "arcface"],
        schedule=Schedule(iterations=20, batch_size=32),
        seed=seeds,
    )
"""


def test_failures_that_are_alike_are_printed_once(marginbench, tmp_path):
    (tmp_path / "cursed.py").write_text(CURSED)
    error = "RuntimeError: a batch of 32 is cursed"
    for command in (["run", "--no-report"], ["status"]):
        done = marginbench(command[0], tmp_path / "cursed.py", *command[1:])
        assert done.returncode == 1
        assert done.stdout.count(error) == 1
        assert f"4 cells failed alike: {error}; first: " in " ".join(done.stdout.split())
