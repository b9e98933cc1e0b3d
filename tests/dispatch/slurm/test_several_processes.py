"""A cell trained by two processes of a job, over gloo: as one would, and requeued as one."""

import json

import pytest

from tests.dispatch.slurm.conftest import Bench, running_cluster


@pytest.fixture(scope="module")
def pair_cluster():
    """A SLURM of one node with two cores."""
    with running_cluster(name="pair", nodes=("p1",), cores=2) as running:
        yield running


@pytest.fixture
def bench(pair_cluster, tmp_path, request):
    name = request.node.name.removeprefix("test_").replace("_", "-")
    made = Bench(tmp_path, name, pair_cluster.environment)
    yield made
    pair_cluster.call("scancel", f"--name=marginbench:{name}")
    made.wait_for(lambda: not pair_cluster.call("squeue", "-h"), "an empty queue")


def rows_of(folder):
    return [json.loads(row) for row in (folder / "history.jsonl").read_text().splitlines()]


def test_two_processes_train_a_cell_and_go_on_after_a_requeue(bench, pair_cluster, undisturbed):
    bench.submit("--seeds", 1, "--processes", 2, DAWDLE="1")
    folder = bench.in_the_middle()
    job = bench.lines(folder)[0]["job"]
    assert "NumCPUs=2 NumTasks=1 CPUs/Task=2" in pair_cluster.call("scontrol", "show", "job", job)
    pair_cluster.call("scontrol", "requeue", job)
    bench.wait_for(
        lambda: len([line for line in bench.lines(folder) if "job" in line]) > 1, "the second life"
    )
    bench.finish(1)
    assert json.loads((folder / "result.json").read_text())["device"] == "2 × cpu"
    rows = rows_of(folder)
    assert [row["iteration"] for row in rows] == list(range(10, 201, 10))
    alone = undisturbed[f"{folder.name}/history.jsonl"].decode().splitlines()
    # The sums are in another order, no more; it grows with every step.
    for row, other in zip(rows[:3], map(json.loads, alone), strict=False):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
    assert "1 done" in bench("status", "--seeds", 1)
    assert "_0_log.out" in bench("logs", folder.name)
