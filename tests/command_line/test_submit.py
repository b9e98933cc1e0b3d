"""submit, status, logs and cancel without SLURM: local processes, profiles, refusals, scripts."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from marginbench.dispatch.slurm.node_checks import check_python
from marginbench.dispatch.slurm.settings import ClusterSettings

GOLDEN = Path(__file__).with_name("sbatch_script.txt")

FAKE_SLURM = """#!/bin/sh
case "$(basename "$0")" in
scontrol) echo "ClusterName = fake"; echo "MaxArraySize = 1001"; echo "MaxJobCount = 10000";;
squeue) ;;
*) exit 1;;
esac
"""

PROFILES = """
[profiles.gpu]
partition = "gpu"
gpus = 4
cpus = 8
mem = 32
hours = 4
setup = ["module load python"]

[profiles.odd]
gpus = -7
"""


@pytest.fixture
def fake_slurm(tmp_path):
    """SLURM's commands as far as a dry run asks them; the PATH to find them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "srun"):
        (folder / name).write_text(FAKE_SLURM)
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_sbatch_script_is_the_reviewed_one(
    marginbench, tiny_suite, tmp_path, fake_slurm, monkeypatch
):
    monkeypatch.setenv("PATH", fake_slurm)
    (tmp_path / "marginbench.toml").write_text(PROFILES)
    options = ["--profile", "gpu", "--account", "lab", "--qos", "long", "--constraint", "a100"]
    done = marginbench("submit", tiny_suite, *options, "--max-parallel", 3, "--dry-run")
    assert done.returncode == 0, done.stderr
    script = done.stdout[done.stdout.index("#!/bin/bash") :]
    script = script.replace(str(tmp_path), "FOLDER").replace(sys.executable, "PYTHON")
    script = script.replace(".".join(map(str, sys.version_info[:2])), "VERSION")
    assert script.rstrip() + "\n" == GOLDEN.read_text()
    assert not (tmp_path / "runs").exists()


def test_every_setting_of_a_cluster_is_an_option_and_a_name_of_a_profile(marginbench):
    text = " ".join(marginbench("submit", "--help").stdout.split())
    names = text.partition("All names of a profile: ")[2].partition(" Options: ")[0]
    for name in ClusterSettings.model_fields:
        assert name in names
        assert (f" --{name.replace('_', '-')} " in text) is (name != "sbatch")
    assert "--grace S" in text
    assert "Time limit of a job" in text
    assert "Default: 4." in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "nope"], ["unknown profile 'nope'", "'gpu' in marginbench.toml"]),
        (["--profile", "odd"], ["profile 'odd'", "gpus = -7", "allowed"]),
        (["--hours", "0"], ["hours = 0", "allowed"]),
        (["--max-parallel", "0"], ["max_parallel = 0", "≥ 1"]),
        (["--executor", "pbs"], ["--executor", "slurm", "local"]),
        ([], ["sbatch", "not here", "--executor local"]),
    ],
)
def test_bad_settings_get_one_clear_message(
    marginbench, tiny_suite, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "marginbench.toml").write_text(PROFILES)
    done = marginbench("submit", tiny_suite, *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


def test_torch_stays_unloaded_once_the_suite_has_its_manifest(
    tiny_suite, tmp_path, fake_slurm, record_suite
):
    record_suite(tiny_suite)
    code = (
        "import sys\n"
        "sys.argv[0] = 'marginbench'\n"
        "from marginbench.command_line import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'matplotlib', 'sklearn'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    for verb, extra, expected in (
        ("submit", ["--dry-run"], "4 to submit"),
        ("status", [], "4 cells: 4 not started"),
        ("cancel", [], "cancelled 0 cells"),
        ("logs", ["nothing"], "unknown cell 'nothing'"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, verb, str(tiny_suite), *extra],
            cwd=tmp_path,
            env=os.environ | {"PATH": fake_slurm},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (verb, done.stderr)
        assert expected in done.stdout + done.stderr
        assert (done.stderr == "") is (verb != "logs")


def test_local_processes_end_as_a_local_run_does(marginbench, tiny_suite, tmp_path):
    done = marginbench(
        "submit", tiny_suite, "--executor", "local", "--gpus", 0, "--max-parallel", 1
    )
    assert "started 4 cells in 1 local job" in done.stdout, done.stderr
    again = marginbench("submit", tiny_suite)
    assert "settings not given are those of the last submission" in again.stdout
    assert "0 to submit" in again.stdout
    watched = marginbench("status", tiny_suite, "--watch", "--every", 1).stdout
    assert "pending" in watched
    assert watched.rstrip().endswith("4 cells: 4 done"), watched
    here = ["--workers", 1, "--device", "cpu", "--no-report", "--runs", "other"]
    assert marginbench("run", tiny_suite, *here).returncode == 0
    for name in ("history.jsonl", "result.json"):
        for file in tmp_path.glob(f"runs/tiny/*/{name}"):
            other = tmp_path / "other" / file.relative_to(tmp_path / "runs")
            assert file.read_bytes() == other.read_bytes()
    assert "4 cells: 4 done" in marginbench("status", tiny_suite).stdout


def test_a_cell_is_found_by_its_key(marginbench, tiny_suite):
    listing = marginbench("status", tiny_suite).stdout
    key = re.search(r"digits-small-softmax-seed0-([0-9a-f]{12})", listing).group(1)
    done = marginbench("logs", tiny_suite, key[:6])
    assert "has written nothing yet" in done.stderr
    done = marginbench("cancel", tiny_suite, "digits-small-softmax-seed9")
    assert "unknown cell" in done.stderr
    assert "did you mean" in done.stderr


NODE_CODE = """
import os, sys
from pathlib import Path

os.environ |= {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "77"}
os.environ["CUDA_VISIBLE_DEVICES"] = ""
from marginbench.dispatch.slurm.job import ClusterJob
from marginbench.dispatch.slurm.settings import ClusterSettings
from marginbench.dispatch.slurm.submission import Submission
from marginbench.runs.code_version import code_version
from marginbench.runs.suite_runs import open_suite

for runs, python in (("without-a-gpu", {}), ("other-python", {"python": "2.7"})):
    run = open_suite(sys.argv[1], Path(runs), seeds=1)
    version = code_version() | python
    made = Submission.create(run.folder, ClusterSettings(gpus=1), "fake", [], version)
    made.note_ids(made.plan(0, [run.runs]), ["77"])
    print(ClusterJob(str(made.path), 0, 0)())
"""


def test_a_node_without_a_gpu_or_with_another_python_is_reported_in_one_line(
    marginbench, tiny_suite, tmp_path, fake_slurm, monkeypatch
):
    """The jobs are cut by hand: this machine would not have let them be submitted."""
    monkeypatch.setenv("PATH", fake_slurm)
    done = subprocess.run(
        [sys.executable, "-c", NODE_CODE, str(tiny_suite)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for runs, words, state, ends in (
        ("without-a-gpu", "no CUDA device", "lost", [["unusable"]]),
        ("other-python", "runs Python 3", "failed", [["refused"]] * 2),
    ):
        output = marginbench("status", tiny_suite, "--seeds", 1, "--runs", runs)
        assert output.returncode == 1
        assert f"2 cells: 2 {state}" in output.stdout, output.stdout
        # Failures that are alike are told once.
        assert output.stdout.count(words) == (state == "failed")
        found = []
        for file in tmp_path.glob(f"{runs}/tiny/*/attempts.jsonl"):
            lines = [json.loads(line) for line in file.read_text().splitlines() if line]
            found.append([line["end"] for line in lines if "end" in line])
        assert found == ends
        assert not list(tmp_path.glob("without-a-gpu/tiny/*/failure.json"))
    assert f"marginbench: {socket.gethostname()}: " in done.stderr
    assert "no CUDA device" in done.stderr


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (None, "No such file or directory"),
        ("echo 'it is Python 2.7, the submission was made with 3.11' >&2; exit 1", "Python 2.7"),
        ("printf 'Traceback:\\n  File x\\nImportError: no submitit\\n' >&2; exit 1", "no submitit"),
    ],
)
def test_the_script_tells_in_one_line_what_is_wrong_with_python(
    program, words, tmp_path, monkeypatch
):
    python = tmp_path / "a python"
    if program is not None:
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    script = "\n".join(check_python())
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("marginbench: ")
    assert words in done.stderr


def test_the_script_has_nothing_to_tell_of_this_python():
    script = "\n".join(check_python())
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FOLDER_SUITE = """
from marginbench import Schedule, component, grid, suite


@suite("own", description="own images", seeds=1)
def own(seeds):
    return grid(
        data=component("folder", name="images", size=8, test_share=0.5),
        backbone=component("small", widths=[4], features=2),
        head="softmax",
        schedule=Schedule(iterations=4, batch_size=4, evaluations=1),
        seed=seeds,
    )
"""


def test_a_node_without_the_data_is_reported_in_one_line(marginbench, tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / "data/images" / name).mkdir(parents=True)
        for number in range(4):
            image = Image.new("RGB", (8, 8), (50 * number, 0, 99))
            image.save(tmp_path / "data/images" / name / f"{number}.png")
    (tmp_path / "own.py").write_text(FOLDER_SUITE)
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "c"))
    local = ["--executor", "local", "--gpus", 0]
    other_data = "export MARGINBENCH_DATA=/nowhere"
    done = marginbench("submit", "own.py", *local, "--setup", other_data)
    assert "started 1 cell" in done.stdout, done.stderr
    output = marginbench("status", "own.py", "--watch", "--every", 1)
    assert output.returncode == 1
    text = " ".join(output.stdout.split())
    assert "1 cell: 1 failed" in text
    assert "'/nowhere/images' does not exist" in text
    assert "Traceback" not in text
    key = next((tmp_path / "runs/own").glob("folder-*")).name
    logs = marginbench("logs", "own.py", key)
    assert "Traceback" in logs.stdout
    assert "0 to submit" in marginbench("submit", "own.py").stdout
