"""A wheel works in a folder that is not the clone, and puts no generic name into anybody's way."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # Of a copy, since building leaves its own files in the tree.
    source = folder / "source"
    made = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")

    def leave(path, names):
        # The folder of runs at the top; the engine has a room of that name.
        return made(path, names) | ({"runs"} if Path(path) == CLONE else set())

    shutil.copytree(CLONE, source, ignore=leave)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_one_top_level_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"marginbench"}
    for name in ("losses/arcface.py", "suites/digits.py", "reports/comparison.py"):
        assert f"marginbench/{name}" in names
    assert "marginbench/reporting/report.html.jinja" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any("published" in name for name in names)


def test_the_wheel_works_away_from_the_clone(wheel, tmp_path, tiny_suite):
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, capture_output=True)
    code = (
        "import marginbench, marginbench.losses, sys; "
        f"assert marginbench.__file__.startswith({str(target)!r}), marginbench.__file__; "
        f"assert marginbench.losses.__file__.startswith({str(target)!r}); "
        "from marginbench.command_line import main; sys.argv[0] = 'marginbench'; main()"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(tiny_suite), "--seeds", "1"],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (elsewhere / "runs/tiny/report/index.html").is_file()
