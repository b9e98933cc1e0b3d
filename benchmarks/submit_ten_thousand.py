"""How long submit, status, cancel and report take for a suite of 10,000 cells, and how much memory.

Measured with nothing there yet, with 10,000 run folders of cells that were begun, with a mixture
of done, running, failed and stopped ones, and with all of them done.

SLURM's commands are replaced by programs that answer at once, so that what is measured is our own
side; they also count how often they are asked. Run: python benchmarks/submit_ten_thousand.py
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUITE = """
from marginbench import Schedule, component, grid, suite


@suite("many", description="many cells", seeds=SEEDS)
def many(seeds):
    return grid(
        data="digits",
        backbone="small",
        head=[component("l-softmax", m=m) for m in (1, 2, 3, 4)],
        schedule=Schedule(iterations=100, batch_size=32, evaluations=4),
        seed=seeds,
    )
"""

# sbatch numbers its arrays and keeps their sizes; squeue lists them all as pending.
FAKE = """#!{python}
import os, re, sys
from pathlib import Path

name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
folder = Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(name + "\\n")
arrays = folder / "arrays"
if name == "sbatch":
    text = Path(arguments[0]).read_text()
    size = int(re.search(r"--array='?0-(\\d+)", text).group(1)) + 1
    comment = re.search(r"--comment='(.*)'", text).group(1)
    known = arrays.read_text().splitlines() if arrays.exists() else []
    arrays.write_text("\\n".join([*known, f"{{size}}|{{comment}}"]) + "\\n")
    print(f"Submitted batch job {{100 + len(known)}}")
elif name == "squeue" and arrays.exists():
    lines = []
    for number, line in enumerate(arrays.read_text().splitlines(), start=100):
        size, comment = line.split("|")
        lines += [
            f"{{number}}|{{i}}|{{number}}|PENDING|{{comment}}||Priority"
            for i in range(int(size))
        ]
    print("\\n".join(lines))
elif name == "scontrol":
    print("ClusterName             = many\\nMaxArraySize            = 1001")
    print("MaxJobCount             = 100000")
"""


def main() -> None:
    """Measure, and print one line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--keep", metavar="DIR", help="work there, and remove nothing")
    given = parser.parse_args()
    cells = given.cells
    if given.keep:
        Path(given.keep).mkdir()
    with (
        contextlib.nullcontext(given.keep) if given.keep else tempfile.TemporaryDirectory() as name
    ):
        folder = Path(name)
        (folder / "bin").mkdir()
        for command in ("sbatch", "squeue", "scontrol", "scancel", "srun"):
            program = folder / "bin" / command
            program.write_text(FAKE.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)
        (folder / "many.py").write_text(SUITE.replace("SEEDS", str(cells // 4)))
        print(f"{cells:,} cells, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
        measure(folder, "status, nothing submitted", "status", "many.py")
        measure(folder, "submit", "submit", "many.py", "--gpus", "0")
        measure(folder, "status, all pending", "status", "many.py")
        measure(folder, "submit again, nothing to do", "submit", "many.py")
        make_folders(folder, ["stopped"])
        measure(folder, "status, all begun and requeued", "status", "many.py")
        (folder / "arrays").unlink()
        measure(folder, "status, all begun and stopped", "status", "many.py")
        measure(folder, "submit, all begun", "submit", "many.py")
        (folder / "arrays").unlink()
        make_folders(folder, ["done", "running", "failed", "stopped"])
        measure(folder, "status, a quarter each", "status", "many.py")
        measure(folder, "submit, a quarter each", "submit", "many.py", "--retry-failed")
        make_folders(folder, ["done"])
        measure(folder, "status, all done", "status", "many.py")
        measure(folder, "cancel, nothing to cancel", "cancel", "many.py")
        measure(folder, "report, all done", "report", "many.py")
        measure(folder, "run, nothing to do", "run", "many.py", "--device", "cpu")
        measure(folder, "run again", "run", "many.py", "--device", "cpu")


def measure(folder: Path, what: str, *arguments: str) -> None:
    """Run a command in a process of its own; print its time, its memory and SLURM's calls."""
    calls = folder / "calls"
    calls.write_text("")
    command = [sys.executable, "-m", "marginbench.command_line", *arguments]
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    asked = " ".join(
        f"{n}×{calls.read_text().split().count(n)}" for n in sorted(set(calls.read_text().split()))
    )
    memory = usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    print(
        f"{what:32} {seconds:6.2f} s, {usage.ru_utime + usage.ru_stime:5.2f} s of CPU"
        f"  {memory:5.0f} MB  {asked or 'SLURM not asked'}"
        f"  | {output.strip().splitlines()[-1] if output.strip() else f'status {status}'}",
        flush=True,
    )


# Run in the folder, with the states as arguments: the cells get them in turn.
MAKE = """
import io, json, os, sys, time
from pathlib import Path
import numpy as np
from marginbench.runs import attempts
from marginbench.runs.run_folder import RunFolder
from marginbench.dispatch.slurm.submissions import submissions
from marginbench.runs.suite_runs import open_suite

states = sys.argv[1:]
suite_run = open_suite("many.py", Path("runs"))
last = submissions(suite_run.folder)[-1]
jobs = {key: job for a in last.arrays() for keys, job in zip(a.jobs, a.ids) for key in keys}
result = {"outcome": "finished", "reason": "", "iteration": 100, "device": "cpu"}
result |= {"train_error": 0.1, "test_error": 0.2, "class_names": [str(n) for n in range(10)]}
rows = [
    {"iteration": i, "learning_rate": 0.1, "loss": 1.0, "train_error": 0.2, "test_error": 0.3}
    for i in (25, 50, 75, 100)
]
history = "".join(json.dumps(row) + "\\n" for row in rows)
arrays = io.BytesIO()
np.savez_compressed(arrays, class_cosine=np.eye(10))
owner = {"machine": "another", "host": "another", "pid": 1, "started": 0}
progress = {"iteration": 50, "of": 100, "resumed_at": 0, "started": 0}
for number, folder in enumerate(suite_run.runs):
    state = states[number % len(states)]
    folder.path.mkdir(exist_ok=True)
    (folder.path / "cell.json").write_text(folder.cell.to_json())
    (folder.path / "history.jsonl").write_text(history)
    (folder.path / "log.txt").write_text("training from iteration 0 of 100\\n")
    lease = {"owner": owner, "released": state != "running", "progress": progress}
    path = folder.path / "lease-1.json"
    path.write_text(json.dumps(lease))
    # A running cell's as if renewed at any time while this is measured.
    os.utime(path, (time.time() + (3600 if state == "running" else -3600),) * 2)
    folder.checkpoint.write_bytes(bytes(4096))
    started = attempts.start_attempt(folder.path, last.path.name, jobs.get(folder.key, "1"), 0, [])
    if state != "running":
        attempts.end_attempt(folder.path, started, state)
    if state == "failed":
        folder.write_failure("RuntimeError: no", "", final=False)
    if state == "done":
        (folder.path / "evaluation.npz").write_bytes(arrays.getvalue())
        (folder.path / "environment.json").write_text(json.dumps({"seconds_of_last_try": 3.0}))
        content = json.dumps(result | {"key": folder.key}, indent=2)
        (folder.path / "result.json").write_text(content)
"""


def make_folders(folder: Path, states: list[str]) -> None:
    """Give every cell the files that its training would leave, in these states in turn."""
    subprocess.run([sys.executable, "-c", MAKE, *states], cwd=folder, check=True)


if __name__ == "__main__":
    main()
