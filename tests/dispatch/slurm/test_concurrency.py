"""Two submitters, a submitter beside a local run, and cells that fail: each cell is run once."""

import time

from tests.dispatch.slurm.conftest import HEAD


def starts(bench):
    return [line for folder in bench.folders() for line in bench.lines(folder) if "job" in line]


def test_two_submitters_at_once(bench, same):
    quick = ["--gpus", 0, "--hours", 1, "--cells-per-job", 2]
    both = [bench.start("submit", *quick, DAWDLE="0") for _ in range(2)]
    outputs = [process.communicate(timeout=900)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(output.count("submitted 2 cells") for output in outputs) == [0, 1]
    bench.finish(2)
    same(bench, 2)
    assert len(starts(bench)) == 2


def test_a_local_run_beside_the_cluster(bench, same):
    """Both want the same cells; the leases see to it that each is trained once at a time."""
    bench.submit(DAWDLE="0.02")
    run = ["--workers", 1, "--device", "cpu", "--no-report"]
    bench("run", *run, DAWDLE="0.02")
    same(bench, 2)
    bench.wait_for(
        lambda: len([line for f in bench.folders() for line in bench.lines(f)]) % 2 == 0,
        "the jobs to end",
    )
    times = [
        line
        for folder in bench.folders()
        for line in (folder / "log.txt").read_text().splitlines()
        if "stopped" in line
    ]
    assert times == []


def test_a_cell_that_keeps_failing_stops_and_the_rest_go_on(bench, same):
    (bench.folder / "head.py").write_text(
        HEAD.replace(
            "        return super().loss(",
            "        if (self.m == 2 and len(labels) == 32 and BROKEN):\n"
            "            raise RuntimeError('this head breaks')\n"
            "        return super().loss(",
        ).replace("@register_head", "BROKEN = os.environ.get('BREAK') == 'yes'\n\n\n@register_head")
    )
    output = bench.submit("--cells-per-job", 2, "--attempts", 2, BREAK="yes", DAWDLE="0")
    assert "submitted 2 cells" in output

    def given_up():
        return (
            all(
                [line["end"] for line in bench.lines(folder) if "end" in line] == ["failed"] * 2
                for folder in bench.folders()
            )
            and len(bench.folders()) == 2
        )

    bench.wait_for(given_up, "both cells to be given up")
    bench.wait_for(lambda: not bench.queue(), "the job to end")
    status = bench("status", status=1)
    assert "2 failed" in status
    assert "RuntimeError: this head breaks (2 attempts)" in status
    assert "0 to submit" in bench.submit()
    # The file may change: what runs is the copy made at submission.
    (bench.folder / "head.py").write_text(HEAD)
    assert "2 to submit" in bench.submit("--retry-failed", "--cells-per-job", 2)
    (bench.folder / "head.py").write_text("raise RuntimeError('changed after submission')\n")
    time.sleep(1)
    (bench.folder / "head.py").write_text(HEAD + "\n# changed\n")
    assert "head.py changed since submission; the jobs run the copy" in bench("status", status=None)
    bench.finish(2)
    same(bench, 2)
