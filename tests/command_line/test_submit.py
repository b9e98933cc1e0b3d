"""submit, status, logs and cancel without SLURM: local processes, profiles, refusals, scripts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from marginbench.dispatch.slurm.node_checks import check_python
from marginbench.dispatch.slurm.settings import ClusterSettings
from tests.command_line.conftest import COMMAND

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
    marginbench_process, tiny_suite, tmp_path, fake_slurm
):
    (tmp_path / "marginbench.toml").write_text(PROFILES)
    options = ["--profile", "gpu", "--account", "lab", "--qos", "long", "--constraint", "a100"]
    done = marginbench_process(
        "submit", tiny_suite, *options, "--max-parallel", 3, "--dry-run", PATH=fake_slurm
    )
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
    marginbench_process, tiny_suite, tmp_path, arguments, words
):
    (tmp_path / "marginbench.toml").write_text(PROFILES)
    done = marginbench_process("submit", tiny_suite, *arguments, PATH=str(tmp_path))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", ["submit", "status", "cancel", "logs"])
def test_torch_stays_unloaded_once_the_suite_has_its_manifest(
    tiny_suite, tmp_path, fake_slurm, record_suite, verb
):
    record_suite(tiny_suite)
    code = (
        "import sys\n"
        f"sys.argv = ['marginbench', {verb!r}, {str(tiny_suite)!r}, *sys.argv[1:]]\n"
        "from marginbench.command_line import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'matplotlib', 'sklearn'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    extra = {"submit": ["--dry-run"], "logs": ["nothing"]}.get(verb, [])
    expected = {
        "submit": "4 to submit",
        "status": "4 cells: 4 not started",
        "cancel": "cancelled 0 cells",
        "logs": "unknown cell 'nothing'",
    }[verb]
    done = subprocess.run(
        [sys.executable, "-c", code, *extra],
        cwd=tmp_path,
        env=os.environ | {"PATH": fake_slurm},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout + done.stderr
    assert (done.stderr == "") is (verb != "logs")


def test_local_processes_end_as_a_local_run_does(marginbench_process, tiny_suite, tmp_path):
    done = marginbench_process(
        "submit", tiny_suite, "--executor", "local", "--gpus", 0, "--max-parallel", 1
    )
    assert "started 4 cells in 1 local job" in done.stdout, done.stderr
    again = marginbench_process("submit", tiny_suite)
    assert "settings not given are those of the last submission" in again.stdout
    assert "0 to submit" in again.stdout
    watched = marginbench_process("status", tiny_suite, "--watch", "--every", 1).stdout
    assert "pending" in watched
    assert watched.rstrip().endswith("4 cells: 4 done"), watched
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(
        [*COMMAND, "run", str(tiny_suite), "--workers", "1", "--device", "cpu", "--no-report"],
        cwd=other,
        check=True,
        capture_output=True,
    )
    for name in ("history.jsonl", "result.json"):
        for file in tmp_path.glob(f"runs/tiny/*/{name}"):
            assert file.read_bytes() == (other / file.relative_to(tmp_path)).read_bytes()
    assert "4 cells: 4 done" in marginbench_process("status", tiny_suite).stdout


def test_a_cell_is_found_by_its_key(marginbench_process, tiny_suite, tmp_path):
    listing = marginbench_process("status", tiny_suite).stdout
    key = re.search(r"digits-small-softmax-seed0-([0-9a-f]{12})", listing).group(1)
    done = marginbench_process("logs", tiny_suite, key[:6])
    assert "has written nothing yet" in done.stderr
    done = marginbench_process("cancel", tiny_suite, "digits-small-softmax-seed9")
    assert "unknown cell" in done.stderr
    assert "did you mean" in done.stderr


def test_a_node_without_a_gpu_is_reported_in_one_line(marginbench_process, tiny_suite, tmp_path):
    """The job is cut by hand: this machine would not have let it be submitted."""
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "os.environ |= {'SUBMITIT_EXECUTOR': 'local', 'SUBMITIT_LOCAL_JOB_ID': '77',\n"
        "    'CUDA_VISIBLE_DEVICES': ''}\n"
        "from marginbench.dispatch.slurm.job import ClusterJob\n"
        "from marginbench.dispatch.slurm.settings import ClusterSettings\n"
        "from marginbench.runs.code_version import code_version\n"
        "from marginbench.dispatch.slurm.submission import Submission\n"
        "from marginbench.runs.suite_runs import open_suite\n"
        "run = open_suite(sys.argv[1], Path('runs'), seeds=1)\n"
        "version = code_version()\n"
        "if len(sys.argv) > 2: version['python'] = sys.argv[2]\n"
        "made = Submission.create(run.folder, ClusterSettings(gpus=1), 'here', [], version)\n"
        "made.note_ids(made.plan(0, [run.runs]), ['77'])\n"
        "print(ClusterJob(str(made.path), 0, 0)())"
    )
    for extra, words in (([], "no CUDA device"), (["2.7"], "runs Python 3")):
        folder = tmp_path / f"with{len(extra)}"
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, str(tiny_suite), *extra],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        output = marginbench_process("status", tiny_suite, "--seeds", 1, cwd=folder)
        assert output.returncode == 1
        assert "2 cells: 2 failed" in output.stdout, output.stdout
        assert output.stdout.count(words) == 2
        for file in folder.glob("runs/tiny/*/attempts.jsonl"):
            lines = [json.loads(line) for line in file.read_text().splitlines() if line]
            assert [line["end"] for line in lines if "end" in line] == ["refused"]


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


def test_a_node_without_the_data_is_reported_in_one_line(marginbench_process, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data/images" / name).mkdir(parents=True)
        for number in range(4):
            image = Image.new("RGB", (8, 8), (50 * number, 0, 99))
            image.save(tmp_path / "data/images" / name / f"{number}.png")
    (tmp_path / "own.py").write_text(FOLDER_SUITE)
    here = {"MARGINBENCH_DATA": str(tmp_path / "data"), "MARGINBENCH_CACHE": str(tmp_path / "c")}
    local = ["--executor", "local", "--gpus", 0]
    other_data = "export MARGINBENCH_DATA=/nowhere"
    done = marginbench_process("submit", "own.py", *local, "--setup", other_data, **here)
    assert "started 1 cell" in done.stdout, done.stderr
    output = marginbench_process("status", "own.py", "--watch", "--every", 1, **here)
    assert output.returncode == 1
    text = " ".join(output.stdout.split())
    assert "1 cell: 1 failed" in text
    assert "'/nowhere/images' does not exist" in text
    assert "Traceback" not in text
    key = next((tmp_path / "runs/own").glob("folder-*")).name
    logs = marginbench_process("logs", "own.py", key, **here)
    assert "Traceback" in logs.stdout
    assert "0 to submit" in marginbench_process("submit", "own.py", **here).stdout
