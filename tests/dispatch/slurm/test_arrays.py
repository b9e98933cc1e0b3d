"""Suites as job arrays: both nodes, more jobs than an array holds, several cells a job."""

import json

from tests.dispatch.slurm.slurm_cluster import ARRAY_SIZE, NODES


def test_an_array_runs_on_both_nodes_without_accounting(bench, cluster, same):
    assert "disabled" in cluster.call("bash", "-c", "sacct 2>&1 || true")
    output = bench.submit()
    assert "2 to submit" in output
    assert "submitted 2 cells in 1 job array" in output
    assert "0 to submit" in bench.submit()
    bench.wait_for(lambda: len(bench.folders()) == 2, "both jobs to start")
    bench.finish(2)
    same(bench, 2)
    assert {bench.lines(folder)[0]["host"] for folder in bench.folders()} == set(NODES)
    assert "3 cells: 2 done, 1 not submitted" in bench("status", "--seeds", 3)
    assert "report/index.html" in bench("report")
    assert "0 to submit" in bench.submit()
    logs = bench("logs", bench.folders()[0].name)
    assert "log.txt" in logs
    assert f"{bench.folders()[0].name}: done" in logs


def test_more_jobs_than_an_array_holds_of_several_cells_each(bench, same):
    output = bench.submit(
        "--seeds", 5, "--cells-per-job", 2, "--max-parallel", 2, DAWDLE="0"
    )  # fmt: skip
    assert "submitted 5 cells in 2 job arrays" in output
    arrays = [
        json.loads(path.read_text())
        for path in sorted(bench.suite_folder.glob("submissions/*/array-*.json"))
    ]
    assert [len(array["jobs"]) for array in arrays] == [2, 1]
    assert max(len(array["jobs"]) for array in arrays) <= ARRAY_SIZE
    bench.finish(5)
    same(bench, 5)
    jobs = [bench.lines(folder)[0]["job"] for folder in bench.folders()]
    assert sorted(jobs.count(job) for job in set(jobs)) == [1, 2, 2]


def test_a_request_that_slurm_refuses_is_reported_and_leaves_nothing(bench):
    output = bench("submit", "--gpus", 0, "--partition", "nowhere", status=1)
    assert "sbatch refuses the jobs" in output
    assert "partition" in output
    assert "Traceback" not in output
    assert not list(bench.suite_folder.glob("submissions/2*"))
    output = bench("submit", "--gpus", "v100:1", status=1)
    assert "sbatch refuses the jobs" in output


def test_a_node_of_no_use_is_reported_in_one_line(bench, same):
    """First none of our code can run there, then torch cannot be loaded."""
    broken = bench.folder / "broken"
    broken.mkdir()
    setup = ["--seeds", 1, "--setup", f"export PYTHONPATH={broken}"]
    (broken / "submitit.py").write_text("raise ImportError('no libcluster.so')\n")
    bench.submit(*setup)
    bench.wait_for(lambda: not bench.queue(), "the job to end")
    output = bench("status", "--seeds", 1, status=1)
    assert "1 lost" in output
    assert "is gone: " in output
    assert "ImportError: no libcluster.so" in output
    assert "Traceback" not in output

    (broken / "submitit.py").unlink()
    (broken / "torch.py").write_text("raise ImportError('no libcudart.so')\n")
    bench.submit(*setup)
    bench.wait_for(lambda: not bench.queue(), "the job to end")
    output = bench("status", "--seeds", 1, status=1)
    assert "1 failed" in output
    assert "ImportError: no libcudart.so" in output
    assert "Traceback" not in output
    assert "0 to submit" in bench.submit(*setup)
    (broken / "torch.py").unlink()
    assert "submitted 1 cell" in bench.submit(*setup, "--retry-failed", DAWDLE="0")
    bench.finish(1)
    same(bench, 1)
