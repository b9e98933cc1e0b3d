"""How long submit, status and cancel take for a suite of 10,000 cells, and how much memory.

SLURM's commands are replaced by programs that answer at once, so that what is measured is our own
side; they also count how often they are asked. Run: python benchmarks/submit_ten_thousand.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUITE = """
from marginbench.cells import Schedule
from marginbench.grids import component, grid, suite


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
            f"{{number}}|{{i}}|{{number}}|PENDING|{{comment}}|0:00|4:00:00||Priority"
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
    cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as name:
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
        finish_all(folder, cells)
        measure(folder, "status, all done", "status", "many.py")
        measure(folder, "cancel, nothing to cancel", "cancel", "many.py")


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
        f"{what:30} {seconds:6.2f} s  {memory:5.0f} MB  {asked or 'SLURM not asked'}"
        f"  | {output.strip().splitlines()[-1] if output.strip() else f'status {status}'}",
        flush=True,
    )


def finish_all(folder: Path, cells: int) -> None:
    """Give every cell a result, as its training would."""
    suite_folder = folder / "runs" / "many"
    result = {"outcome": "finished", "reason": "", "iteration": 100, "device": "cpu"}
    result |= {"train_error": 0.1, "test_error": 0.2, "class_names": [str(n) for n in range(10)]}
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from marginbench.suite_runs import open_suite\n"
        "for run in open_suite('many.py', Path('runs'), light=True).runs: print(run.path.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    for name in done.stdout.split():
        run_folder = suite_folder / name
        run_folder.mkdir()
        content = result | {"key": name.rpartition("-")[2]}
        (run_folder / "result.json").write_text(json.dumps(content, indent=2))
        (run_folder / "history.jsonl").write_text("{}\n")


if __name__ == "__main__":
    main()
