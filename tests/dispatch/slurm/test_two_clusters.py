"""Two clusters on one file system: neither takes the other's cells for lost, nor trains them."""

import os
import time

import pytest

from tests.dispatch.slurm.conftest import Bench


@pytest.fixture
def there(bench, other_cluster):
    """The same suite in the same folder, seen from the other cluster."""
    yield Bench(bench.folder, bench.name, other_cluster.environment | {"DAWDLE": "1"})
    other_cluster.call("scancel", f"--name=marginbench:{bench.name}")


def attempts_started(bench):
    return [line for folder in bench.folders() for line in bench.lines(folder) if "job" in line]


def test_another_clusters_cells_are_left_to_it_until_cancelled(bench, there, same):
    there.submit()
    running = bench.in_the_middle()
    output = bench("status")
    assert "1 running, 1 remote" in output
    assert "of cluster other" in output
    assert (
        "1 cell submitted to cluster other, whose jobs are not seen from here: ask there" in output
    )
    assert "1 pending" in there("status")
    assert "0 to submit" in bench("submit", "--gpus", 0)

    # A job that waits for weeks leaves no trace; after 14 days its cells count as lost.
    jobs = next(bench.suite_folder.glob("submissions/2*/jobs"))
    seen = jobs.stat().st_mtime
    os.utime(jobs, (time.time() - 15 * 86400,) * 2)
    output = bench("status", status=1)
    assert "none of its submission's jobs has started or ended for 14 days" in output
    assert "1 running, 1 lost" in output
    os.utime(jobs, (seen, seen))

    waiting = bench.waiting_cell(output)
    output = bench("cancel", waiting)
    assert "cancelled 1 cell" in output
    assert "1 of them submitted to cluster other" in output
    assert "submitted 1 cell in 1 job array" in bench.submit(DAWDLE="0")
    bench.finish(2)
    same(bench, 2)
    assert "2 done" in bench("status")
    assert "2 done" in there("status")
    bench.wait_for(lambda: not there.queue(), "the other cluster's jobs to end")
    hosts = {line["host"] for line in attempts_started(bench)}
    assert "m1" in hosts
    assert hosts & {"n1", "n2"}
    assert len(attempts_started(bench)) == 2
    assert bench.lines(running)[0]["host"] == "m1"


def test_submitters_on_two_clusters_at_once(bench, there, same):
    quick = ["--gpus", 0, "--hours", 1, "--cells-per-job", 2]
    both = [one.start("submit", *quick, DAWDLE="0") for one in (bench, there)]
    outputs = [process.communicate(timeout=900)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(output.count("submitted 2 cells") for output in outputs) == [0, 1]
    assert sorted("0 to submit" in output for output in outputs) == [False, True]
    bench.finish(2)
    same(bench, 2)
    assert len(attempts_started(bench)) == 2
