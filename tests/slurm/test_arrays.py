"""Suites as job arrays: both nodes, more jobs than an array holds, several cells a job."""

import json

from tests.slurm.slurm_cluster import ARRAY_SIZE, NODES


def test_an_array_runs_on_both_nodes(bench, cluster, same):
    output = bench.submit("--seeds", 4, DAWDLE="0.01")
    assert "submitted 4 cells in 1 job array" in output
    assert "4 to submit" in output
    waiting = bench("status", "--seeds", 4)
    assert "pending" in waiting or "starting" in waiting
    # Nothing is submitted twice while it is in the queue.
    assert "0 to submit" in bench.submit("--seeds", 4)
    bench.finish(4)
    same(bench, 4)
    hosts = {bench.lines(folder)[0]["host"] for folder in bench.folders()}
    assert hosts == set(NODES)
    assert "4 cells: 4 done" in bench("status", "--seeds", 4)
    assert "0 to submit" in bench.submit("--seeds", 4)
    logs = bench("logs", bench.folders()[0].name)
    assert "log.txt" in logs
    assert "_0_log.out" in logs
    report = bench("report", "--seeds", 4)
    assert "report/index.html" in report


def test_more_jobs_than_an_array_holds(bench, cluster, same):
    output = bench.submit("--seeds", 5, "--max-parallel", 2, DAWDLE="0")
    assert "submitted 5 cells in 2 job arrays" in output
    arrays = [
        json.loads(path.read_text())
        for path in sorted(bench.suite_folder.glob("submissions/*/array-*.json"))
    ]
    assert [len(array["jobs"]) for array in arrays] == [3, 2]
    assert max(len(array["jobs"]) for array in arrays) <= ARRAY_SIZE
    bench.finish(5)
    same(bench, 5)


def test_a_job_trains_several_cells(bench, cluster, same):
    assert "submitted 5 cells in 1 job array" in bench.submit(
        "--seeds", 5, "--cells-per-job", 3, DAWDLE="0"
    )
    bench.finish(5)
    same(bench, 5)
    jobs = [bench.lines(folder)[0]["job"] for folder in bench.folders()]
    assert sorted(jobs.count(job) for job in set(jobs)) == [2, 3]


def test_accounting_is_off_and_a_report_comes_from_what_is_there(bench, cluster, same):
    assert "disabled" in cluster.call("bash", "-c", "sacct 2>&1 || true")
    bench.submit("--seeds", 1, DAWDLE="0")
    bench.finish(1)
    assert "2 cells: 1 done, 1 not submitted" in bench("status")
    same(bench, 1)


def test_a_request_that_slurm_refuses_is_told_and_leaves_nothing(bench, cluster):
    output = bench("submit", "--gpus", 0, "--partition", "nowhere", status=1)
    assert "sbatch refuses the jobs" in output
    assert "partition" in output
    assert "Traceback" not in output
    assert not list(bench.suite_folder.glob("submissions/2*"))
    output = bench("submit", "--gpus", 1, status=1)
    assert "sbatch refuses the jobs" in output
