"""A SLURM for the tests of this folder, and the command run against it."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import BARS_SOURCE
from tests.dispatch.slurm.slurm_cluster import SlurmCluster, missing_packages, wait_until

# -P: as the installed command, it imports nothing from the current folder.
COMMAND = [sys.executable, "-P", "-m", "marginbench.command_line"]

# A head that takes DAWDLE seconds a step, the first steps excepted, until there is the file HURRY
# or its job is put back into the queue; what it computes is L-Softmax, annealing and all.
HEAD = f"""{BARS_SOURCE}
import os
import time

from marginbench.heads import register_head
from marginbench.losses.l_softmax import LSoftmax
from marginbench.plugins.parameters import PositiveInteger


@register_head("dawdling")
class Dawdling(LSoftmax):
    def __init__(self, in_features: int, num_classes: int, *, m: PositiveInteger = 2):
        super().__init__(in_features, num_classes, m=m, lambda_gamma=0.02)
        self.steps = 0

    def loss(self, features, labels):
        self.steps += 1
        first_life = os.environ.get("SLURM_RESTART_COUNT", "0") == "0"
        if first_life and self.steps > 12 and not os.path.exists(os.environ.get("HURRY", "/")):
            time.sleep(float(os.environ.get("DAWDLE", "0")))
        return super().loss(features, labels)
"""

SUITE = """
from marginbench import Schedule, component, grid, suite


@suite("NAME", description="a suite for tests", seeds=2)
def tests(seeds):
    return grid(
        setting="tests",
        data="bars",
        backbone=component("small", widths=[4], features=2),
        head="dawdling",
        schedule=Schedule(iterations=200, batch_size=32, evaluations=20),
        seed=seeds,
    )
"""


class Bench:
    """The command in a folder of its own, with a suite of its own name.

    Args:
        folder: current folder of the command.
        name: of the suite; also what its jobs are found by in the queue.
        environment: of the command.
    """

    def __init__(self, folder, name, environment):
        self.folder = folder
        self.name = name
        self.environment = environment | {"HURRY": str(folder / "hurry")}
        self.suite_folder = folder / "runs" / name
        (folder / "suite.py").write_text(SUITE.replace("NAME", name))
        (folder / "head.py").write_text(HEAD)
        # Of the name of a module that Python's processes import: no job may take it for that.
        (folder / "queue.py").write_text("raise SystemExit('of the current folder')\n")

    def start(self, verb, *arguments, **environment):
        """The command as a process."""
        command = [*COMMAND, verb, "suite.py", *map(str, arguments), "--plugin", "head.py"]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, verb, *arguments, status=0, **environment):
        """Run the command; what it printed. With status None any exit status will do."""
        process = self.start(verb, *arguments, **environment)
        output, _ = process.communicate(timeout=900)
        assert status is None or process.returncode == status, output
        return output

    def submit(self, *arguments, **environment):
        """Submit with settings that make the tests quick."""
        quick = ["--gpus", 0, "--checkpoint-seconds", 0.3, "--hours", 1, "--grace", 20]
        return self("submit", *quick, *arguments, **environment)

    def wait_for(self, condition, what, seconds=600.0):
        """Until a condition holds; where it does not, the state of affairs is in the error."""
        try:
            return wait_until(condition, what, seconds)
        except AssertionError as error:
            queue = subprocess.run(
                ["squeue", "--array"], env=self.environment, capture_output=True, text=True
            ).stdout
            logs = "".join(
                f"==> {path}\n{path.read_text()[-2000:]}\n"
                for path in self.suite_folder.glob("submissions/*/jobs/*.err")
            )
            raise AssertionError(f"{error}\n{queue}\n{logs}") from None

    def finish(self, cells, seconds=600.0):
        """Let all cells hurry, until so many have a result."""
        (self.folder / "hurry").touch()
        self.wait_for(
            lambda: len(list(self.suite_folder.glob("*/result.json"))) >= cells,
            f"{cells} results",
            seconds,
        )

    def in_the_middle(self):
        """Until some cell has recorded a row and can go on from a checkpoint; its run folder."""

        def found():
            for path in self.suite_folder.glob("*/checkpoint.pt"):
                if path.with_name("history.jsonl").read_text():
                    return path.parent
            return None

        return self.wait_for(found, "a checkpoint")

    def outcome(self):
        """The bytes that must not depend on what happened on the way."""
        return {
            f"{path.parent.name}/{path.name}": path.read_bytes()
            for pattern in ("history.jsonl", "result.json")
            for path in self.suite_folder.glob(f"*/{pattern}")
        }

    def lines(self, folder):
        """The lines of a cell's attempts; none before its first."""
        path = folder / "attempts.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line]

    def queue(self):
        """The suite's jobs in the queue."""
        command = ["squeue", "--noheader", f"--name=marginbench:{self.name}"]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def waiting_cell(self, status):
        """The folder's name of the one cell of a status that has not started."""
        names = [line.split()[0] for line in status.splitlines() if " 0/200 " in line]
        (name,) = {name for name in names if not (self.suite_folder / name).exists()}
        return name

    def folders(self):
        """The run folders that there are."""
        return sorted(path.parent for path in self.suite_folder.glob("*/cell.json"))


@contextlib.contextmanager
def running_cluster(**arguments):
    """A SLURM; where there can be none, the test is skipped."""
    missing = missing_packages()
    if missing:
        pytest.skip(f"a real SLURM is wanted: install the packages {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("a real SLURM is wanted: that takes root")
    # Not under pytest's folder: munge is particular about the length and the rights of its path.
    with tempfile.TemporaryDirectory(prefix="marginbench-slurm-") as folder:
        running = SlurmCluster(Path(folder), **arguments)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="session")
def cluster():
    """The SLURM that nearly all tests use."""
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="session")
def other_cluster():
    """A second cluster, of one node, on the same file system."""
    with running_cluster(name="other", nodes=("m1",)) as running:
        yield running


@pytest.fixture
def bench(cluster, tmp_path, request):
    """The command against the SLURM, with a suite named after the test."""
    name = request.node.name.removeprefix("test_").replace("_", "-").split("[")[0]
    made = Bench(tmp_path, name, cluster.environment | {"DAWDLE": "1"})
    yield made
    subprocess.run(["scancel", f"--name=marginbench:{name}"], env=cluster.environment, check=False)
    wait_until(lambda: not cluster.call("squeue", "-h"), "an empty queue")


@pytest.fixture(scope="session")
def undisturbed(made_once):
    """What a run without SLURM and without disturbance writes: five seeds."""

    def run(folder):
        arguments = ("--seeds", 5, "--workers", 1, "--device", "cpu", "--no-report")
        Bench(folder, "undisturbed", dict(os.environ))("run", *arguments)

    files = Bench(made_once("undisturbed-here", run), "undisturbed", dict(os.environ)).outcome()
    assert len(files) == 2 * 5
    return files


@pytest.fixture
def same(undisturbed):
    """Assert that cells ended as in the undisturbed run: the first so many seeds."""

    def check(bench, cells):
        outcome = bench.outcome()
        assert len(outcome) == 2 * cells
        assert outcome == {name: undisturbed[name] for name in outcome}
        for folder in bench.folders():
            rows = [json.loads(row) for row in (folder / "history.jsonl").read_text().splitlines()]
            assert [row["iteration"] for row in rows] == list(range(10, 201, 10))

    return check
