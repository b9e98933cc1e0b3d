"""Whatever a cluster does to a job, its cells end as if nothing had happened."""

import os
import signal
import time

import psutil


def job_of(bench, folder):
    """The job that a cell was last started in."""
    return [line for line in bench.lines(folder) if "job" in line][-1]["job"]


def ends(bench, folder):
    return [line["end"] for line in bench.lines(folder) if "end" in line]


def starts(bench, folder):
    return [line for line in bench.lines(folder) if "job" in line]


def test_scontrol_requeue_in_the_middle(bench, cluster, same):
    bench.submit("--seeds", 1)
    folder = bench.in_the_middle()
    job = job_of(bench, folder)
    cluster.call("scontrol", "requeuehold", job)
    state = ["squeue", "--noheader", "--array", f"--jobs={job}", "--format=%t"]
    bench.wait_for(lambda: "PD" in cluster.call(*state), "the job to be back in the queue")
    assert "1 requeued" in bench("status")
    cluster.call("scontrol", "release", job)
    bench.finish(1)
    same(bench, 1)
    bench.wait_for(lambda: ends(bench, folder) == ["stopped", "done"], "the attempts to end so")
    assert starts(bench, folder)[1]["restart"] == 1
    assert starts(bench, folder)[1]["checkpoint"] > 0
    assert "2 cells: 1 done, 1 not submitted" in bench("status")


def test_preemption_by_a_higher_partition(bench, cluster, same):
    bench.submit()
    bench.in_the_middle()
    cluster.call(
        "sbatch", "--partition=urgent", "--nodes=2", "--ntasks-per-node=1", "--wrap=sleep 2",
        "--output=/dev/null",
    )  # fmt: skip
    bench.wait_for(
        lambda: any(starts(bench, folder)[-1]["restart"] == 1 for folder in bench.folders()),
        "a preempted cell to go on",
    )
    bench.finish(2)
    same(bench, 2)


def test_a_bare_warning_sends_the_job_back_into_the_queue(bench, cluster, same):
    """As with preemption that leaves a time of grace: SIGTERM first, and nothing else yet."""
    bench.submit("--seeds", 1)
    folder = bench.in_the_middle()
    cluster.call("scancel", "--signal=TERM", job_of(bench, folder))
    bench.wait_for(lambda: ends(bench, folder) == ["stopped"], "the cell to stop")
    bench.finish(1)
    same(bench, 1)
    bench.wait_for(lambda: ends(bench, folder) == ["stopped", "done"], "the attempts to end so")
    assert starts(bench, folder)[1]["restart"] == 1


def test_time_limit_with_requeue(bench, cluster, same):
    """SLURM checks limits twice a minute: the cell is in its middle when the limit draws near."""
    bench.submit("--cells-per-job", 2, "--grace", 120)
    folder = bench.in_the_middle()
    job = job_of(bench, folder)
    # At its next check SLURM finds at most two minutes left, and warns.
    minutes = minutes_of(cluster.call("squeue", "-h", "-j", job, "-o", "%M"))
    cluster.call("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes + 2}")
    bench.wait_for(lambda: "stopped" in ends(bench, folder), "the warning and the stop")
    # Else it would be warned again, before it has begun where the machine is busy.
    cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    bench.finish(2)
    same(bench, 2)
    assert starts(bench, folder)[1]["restart"] == 1
    assert starts(bench, folder)[1]["checkpoint"] > 0


def minutes_of(elapsed):
    """The whole minutes of "1:02:03" or "2:03"."""
    *hours, minutes, _ = map(int, elapsed.strip().split(":"))
    return 60 * sum(hours) + minutes


def test_a_node_crashes_and_comes_back(bench, cluster, same):
    bench.submit()
    folder = bench.in_the_middle()
    node = starts(bench, folder)[-1]["host"]
    cluster.crash_node(node)
    bench.wait_for(
        lambda: "down" in cluster.call("sinfo", "-h", "-n", node, "-o", "%T"), "the crash noticed"
    )
    cluster.start_node(node)
    cluster.wait_for_nodes()
    bench.finish(2)
    same(bench, 2)
    bench.wait_for(lambda: ends(bench, folder) == ["done"], "the attempts to end so")
    assert len(starts(bench, folder)) == 2
    assert starts(bench, folder)[1]["checkpoint"] > 0


def training_process(bench, folder):
    """The process that holds a cell's lease."""
    from marginbench.runs.lease import read_lease

    lease = bench.wait_for(lambda: read_lease(folder), "a lease")
    return psutil.Process(lease.owner["pid"])


def test_a_cell_killed_as_for_memory_is_tried_again(bench, same):
    bench.submit("--seeds", 1)
    folder = bench.in_the_middle()
    training_process(bench, folder).kill()
    bench.finish(1)
    same(bench, 1)
    bench.wait_for(lambda: ends(bench, folder) == ["killed", "done"], "the attempts to end so")


def test_a_job_killed_as_a_whole_goes_on_when_submitted_again(bench, cluster, same):
    bench.submit("--seeds", 1)
    folder = bench.in_the_middle()
    cell = training_process(bench, folder)
    for process in (cell.parent(), cell):
        os.kill(process.pid, signal.SIGKILL)
    bench.wait_for(lambda: not bench.queue(), "the job to be gone")
    status = bench("status", "--seeds", 1, status=1)
    assert "1 lost" in status
    assert "is gone" in status
    assert "1 to submit" in bench.submit("--seeds", 1, DAWDLE="0")
    bench.finish(1)
    same(bench, 1)


def test_cancelled_cells_stop_and_go_on_when_submitted_again(bench, cluster, same):
    bench.submit("--seeds", 3, "--cells-per-job", 2)
    folder = bench.in_the_middle()
    running = job_of(bench, folder)
    # One of the two cells of a job: the job goes on with the other.
    assert "cancelled 1 cell" in bench("cancel", folder.name.rpartition("-")[2], "--seeds", 3)
    bench.wait_for(lambda: "stopped" in ends(bench, folder), "the cell to stop")
    assert running.partition("_")[0] in cluster.call("squeue", "-h", "--array", "-o", "%F")
    assert "cancelled" in bench("cancel", "--seeds", 3)
    bench.wait_for(lambda: not bench.queue(), "an empty queue")
    time.sleep(1)
    status = bench("status", "--seeds", 3)
    assert "3 cancelled" in status
    assert "3 to submit" in bench.submit("--seeds", 3, DAWDLE="0")
    bench.finish(3)
    same(bench, 3)


def test_cancelling_a_head_leaves_the_other_heads_jobs_to_end(bench):
    """Three jobs: two cells of the slow head, one of it and one of softmax, two of softmax."""
    bench.submit("--seeds", 3, "--head", "softmax", "--cells-per-job", 2)

    def slow_and_started():
        return [one for one in bench.suite_folder.glob("*-dawdling-*") if starts(bench, one)]

    bench.wait_for(lambda: len(slow_and_started()) == 2, "the first two jobs to start")
    # Neither --seeds nor --head: what was submitted counts.
    assert "cancelled 3 cells" in bench("cancel", "--only", "dawdling")
    # Cells that may hurry would end before they look whether they are cancelled.
    bench.wait_for(
        lambda: all(ends(bench, one) == ["stopped"] for one in slow_and_started()),
        "the cancelled cells to stop",
    )
    bench.finish(3)
    bench.wait_for(lambda: not bench.queue(), "an empty queue")
    status = bench("status")
    assert "3 cells: 3 cancelled" in status
    assert "or came by --head or --plugin: 3 cells: 3 done" in status
    (shared,) = bench.suite_folder.glob("*-dawdling-*seed2-*")
    (beside,) = bench.suite_folder.glob("*-softmax-*seed0-*")
    assert job_of(bench, shared) == job_of(bench, beside)
    assert ends(bench, shared) == ["stopped"]
    assert ends(bench, beside) == ["done"]
