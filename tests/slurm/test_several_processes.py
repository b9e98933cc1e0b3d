"""A cell trained by two tasks of a job, over gloo: as one process would, and requeued as one."""

import json

import pytest


def histories(bench):
    return [
        [json.loads(row) for row in (folder / "history.jsonl").read_text().splitlines()]
        for folder in bench.folders()
    ]


def test_two_tasks_train_every_cell_together_and_go_on_after_a_requeue(bench, cluster, undisturbed):
    # Each node has one core, which the two tasks are to share.
    (bench.folder / "marginbench.toml").write_text(
        "[profiles.pair]\ngpus = 0\nprocesses = 2\nsbatch = { overcommit = true }\n"
    )
    bench.submit("--seeds", 1, "--profile", "pair", DAWDLE="0.05")
    folder = bench.in_the_middle()
    job = bench.lines(folder)[0]["job"]
    cluster.call("scontrol", "requeue", job)
    bench.finish(1)
    bench.submit("--seeds", 2, "--profile", "pair", DAWDLE="0")
    bench.finish(2)
    results = [json.loads((f / "result.json").read_text()) for f in bench.folders()]
    assert {result["device"] for result in results} == {"2 × cpu"}
    assert len(bench.lines(folder)) >= 2
    alone = [json.loads(row) for row in next(iter(undisturbed.values())).splitlines()]
    for rows in histories(bench):
        assert [row["iteration"] for row in rows] == list(range(10, 201, 10))
    first = histories(bench)[0]
    # Another order of sums, no more: seed 0 of the run in one process.
    assert first[0]["loss"] == pytest.approx(alone[0]["loss"], rel=1e-4)
    assert "2 done" in bench("status", "--seeds", 2)
