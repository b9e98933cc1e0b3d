"""What the paper's suites declare, full and small; sizes; the head "*"."""

import subprocess
import sys

import pytest

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.grids import component, every_other_head, grid
from marginbench.experiments.resolution import Resolver, resolve_cell
from marginbench.experiments.suites import find_suite, suite_names
from marginbench.heads import head_names
from marginbench.heads.annealing import MarginAnnealing
from marginbench.runs.suite_runs import open_suite

PAPERS = ["mnist", "fig2", "cifar10", "cifar10+", "cifar100", "cifar100-open", "fig6", "fig7"]


@pytest.mark.parametrize("name", PAPERS)
def test_full_suites_have_the_papers_solver_and_schedule(name):
    for cell in find_suite(name).cells():
        schedule, optimiser = cell.schedule, cell.optimiser
        assert (schedule.iterations, schedule.batch_size) == (18_000, 256)
        assert (schedule.milestones, schedule.factor) == ((12_000, 15_000), 0.1)
        assert (optimiser.learning_rate, optimiser.momentum) == (0.1, 0.9)
        assert optimiser.weight_decay == 5e-4
        assert schedule.augmentation == ("crop-flip" if name == "cifar10+" else "none")
        assert {cell.seed for cell in find_suite(name).cells()} == set(range(5))


@pytest.mark.parametrize("size", ["full", "small"])
@pytest.mark.parametrize("name", PAPERS)
def test_every_cell_resolves_and_none_comes_twice(name, size, tmp_path):
    run = open_suite(name, tmp_path, seeds=1, size=size)
    assert len({folder.key for folder in run.runs}) == len(run.runs) == run.of
    ending = "-small" if size == "small" else ""
    assert run.folder == tmp_path / f"{name}{ending}"


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar10+", "cifar100", "cifar100-open"])
def test_full_tables_have_every_registered_head_that_needs_no_parameter(name, tmp_path):
    run = open_suite(name, tmp_path, seeds=1)
    heads = {folder.cell.head.name for folder in run.runs}
    assert {"hinge", "softmax", "l-softmax", "contrastive", "a-softmax", "arcface"} <= heads
    assert "*" not in heads
    left_out = set(head_names()) - heads
    for head in left_out:
        with pytest.raises(UserError):
            resolve_cell(run.runs[0].cell.model_copy(update={"head": component(head)}))


def test_lambda_falls_over_the_fraction_of_training():
    for size in ("full", "small"):
        for cell in find_suite("mnist").cells(1, size):
            if cell.head.name == "l-softmax":
                gamma = cell.head.parameters["lambda_gamma"]
                # The authors' run: γ = 2.5e-5 over 30,000 iterations.
                assert gamma * cell.schedule.iterations == pytest.approx(2.5e-5 * 30_000)


def test_figure_7_has_four_widths_and_the_one_that_the_paper_names():
    filters = {tuple(c.backbone.parameters["filters"]) for c in find_suite("fig7").cells(1)}
    assert len(filters) == 4
    assert (32, 32, 64, 128) in filters


def test_an_unknown_size_is_refused():
    with pytest.raises(UserError, match="size = 'tiny' is not allowed; allowed: full, small"):
        find_suite("mnist").cells(size="tiny")
    with pytest.raises(UserError, match="size = 'small' is not allowed; allowed: full"):
        find_suite("digits").cells(size="small")


def test_suites_import_no_torch():
    program = (
        "import sys, marginbench.experiments.suites as g; "
        "[g.find_suite(n).cells() for n in g.suite_names()]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert set(PAPERS) <= set(suite_names())


def small_grid(head):
    return grid(
        data="digits",
        backbone="small",
        head=head,
        schedule=Schedule(iterations=20, batch_size=8),
        seed=[0, 1],
    )


def test_every_other_head_takes_the_suggestions_that_it_has_parameters_for():
    cells = Resolver().with_other_heads(small_grid([component("softmax"), every_other_head(s=7.0)]))
    heads = {cell.head.name: cell.head.parameters for cell in cells}
    assert heads["arcface"] == {"s": 7.0}
    assert heads["hinge"] == {}
    assert sum(cell.head.name == "softmax" for cell in cells) == 2
    assert sum(cell.head.name == "arcface" for cell in cells) == 2


def test_a_head_that_does_not_allow_the_suggestion_is_left_out():
    cells = Resolver().with_other_heads(small_grid([every_other_head(s=-1.0)]))
    names = {cell.head.name for cell in cells}
    assert "arcface" not in names
    assert "softmax" in names


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fig2", "fig6", "fig7"])
def test_small_sizes_give_the_margin_time(name):
    """λ above 5 for half of the run, and below 0.1 at its end: the margin nearly in full."""
    for cell in find_suite(name).cells(1, "small"):
        if cell.head.name == "l-softmax":
            given = cell.head.parameters
            steps = cell.schedule.iterations
            annealing = MarginAnnealing(
                *(given[f"lambda_{part}"] for part in ("base", "gamma", "power", "min"))
            )
            annealing.iteration += round(0.49 * steps)
            assert float(annealing.current()) > 5
            annealing.iteration += steps - annealing.iteration
            assert float(annealing.current()) < 0.1


@pytest.mark.parametrize("name", ["cifar100", "fig6"])
def test_small_cifar100_trains_on_ten_classes_and_few_images(name):
    for cell in find_suite(name).cells(1, "small"):
        assert len(cell.data.parameters["left_out"]) == 90
        assert cell.data.parameters["train_count"] == 1_000


@pytest.mark.parametrize("name", ["cifar100", "fig6", "fig7"])
def test_the_small_sizes_are_searched_by_the_error_that_their_tables_show(name):
    assert find_suite(name).search.by == "error"
    assert find_suite("cifar100-open").search.by is None
