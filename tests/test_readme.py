"""What README.md and docs/ say, done as they say."""

import contextlib
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from PIL import Image

from marginbench import backbones, component, data, grid, regularisers, results
from marginbench.command_line import main
from marginbench.data import check_data
from marginbench.dispatch.slurm.settings import make_settings, read_profile
from marginbench.experiments import suites
from marginbench.experiments.cells import make_cell
from marginbench.experiments.resolution import resolve_cell
from marginbench.experiments.suites import find_suite
from marginbench.plugins import loading, registrations
from marginbench.reporting import sections
from marginbench.training.model_check import check_models
from tests.command_line import conftest as commands
from tests.conftest import train_cell

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
}
README = DOCUMENTS["README.md"]
CODE = [
    code
    for text in DOCUMENTS.values()
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
]
# A command ends before two blanks, after which the line says what it does.
LINE = re.compile(r"^    (?:torchrun .*? -m )?(marginbench (?:\S| (?! ))+)", re.MULTILINE)
INLINE = re.compile(r"`(marginbench [^`]+)`")
LINES = sorted({line for text in DOCUMENTS.values() for line in LINE.findall(text)})
COMMANDS = sorted(
    {*LINES, *(" ".join(c.split()) for text in DOCUMENTS.values() for c in INLINE.findall(text))}
)
marginbench = commands.marginbench
PLACEHOLDERS = ("SUITE", "HEAD", "CELL", "DIR")


def block_with(word):
    (block,) = [code for code in CODE if word in code]
    return block


@pytest.fixture
def folder(tmp_path, monkeypatch, scratch_registry):
    """An empty folder, with the files that the documents say to save; registries to spoil."""
    for room in (suites, sections, regularisers, data, backbones):
        registry = room._registry
        registry.names()
        for attribute in ("_entries", "_origins"):
            monkeypatch.setattr(registry, attribute, dict(getattr(registry, attribute)))
    monkeypatch.setattr(registrations, "_unloaded_plugin_files", [])
    monkeypatch.setattr(loading, "_plugin_files", dict(loading._plugin_files))
    for name, word in FILES.items():
        (tmp_path / name).write_text(block_with(word))
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


FILES = {
    "birds.py": '@suite("birds"',
    "my_head.py": '@register_head("wide-angle")',
    "my_suite.py": '@suite("scales"',
    "smoothed.py": '@register_head("smoothed")',
    "class_margins.py": '@register_head("class-margins")',
    "my_section.py": "@section(",
    "my_search.py": '@suite("searched"',
    "my_regulariser.py": '@register_regulariser("centred")',
    "my_data.py": '@data_source("stripes")',
    "my_backbone.py": '@register_backbone("two-layers")',
}


def test_the_code_is_that_tested_here():
    others = [
        "def search_space(",
        "build_head(",
        'results("digits"',
        "load_trained(frame",
        'component("npz"',
        '"lfw"',
        '@suite("fine-tuned"',
        'component("srip"',
        'conv="sphere"',
        'orthogonal_map="householder"',
    ]
    for code in CODE:
        assert [word for word in [*FILES.values(), *others] if word in code], code
    lines = block_with(FILES["my_head.py"]).strip().splitlines()
    assert len(lines) < 25


def test_the_commands_with_files_are_those_tested_here():
    assert [line for line in LINES if ".py" in line] == [
        "marginbench check-head my_head.py",
        "marginbench check-head smoothed.py",
        "marginbench check-regulariser my_regulariser.py",
        "marginbench report digits --plugin my_section.py --section slowest",
        "marginbench run birds.py --data .",
        "marginbench run digits --plugin my_head.py --head wide-angle:m=0.3",
        "marginbench run my_backbone.py",
        "marginbench run my_data.py",
        "marginbench run my_regulariser.py",
        "marginbench run my_suite.py --size small",
        "marginbench tune my_search.py",
    ]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_can_be_typed(line, folder):
    verb, *words = shlex.split(line)[1:]
    command = main if verb == "--help" else main.commands[verb]
    if not words or "--help" in words:
        return
    with contextlib.suppress(click.exceptions.MissingParameter):
        context = command.make_context(verb, words)
        suite = context.params.get("suite", "SUITE")
        if not suite.startswith(PLACEHOLDERS) and not suite.endswith(".py"):
            assert context.params["size"] in ("full", *find_suite(suite).sizes)


@pytest.mark.parametrize("file", ["my_head.py", "smoothed.py", "class_margins.py"])
def test_the_heads_keep_their_contract(file, folder, marginbench):
    assert "0 fail" in marginbench("check-head", file).stdout


def test_the_regulariser_keeps_its_contract_and_trains(folder, marginbench):
    assert "0 fail" in marginbench("check-regulariser", "my_regulariser.py").stdout
    cells = find_suite("my_regulariser.py").cells(1)
    assert [cell.regulariser and cell.regulariser.name for cell in cells] == [
        None, None, "centred", "centred", "mhe", "mhe"
    ]  # fmt: skip
    short = {"iterations": 40, "batch_size": 32, "evaluations": 1}
    cell = resolve_cell(make_cell(**{**cells[2].model_dump(), "schedule": short}))
    result, run = train_cell(cell, folder / "runs")
    assert result["outcome"] == "finished"
    assert 0 < run.read_history()[-1]["regularisation"] < 1


@pytest.mark.parametrize("file", ["my_data.py", "my_backbone.py"])
def test_own_data_and_an_own_backbone_are_trained(file, folder):
    cell, *_ = [resolve_cell(cell) for cell in find_suite(file).cells(1)]
    check_models([cell], check_data([cell.data]))
    short = {"iterations": 60, "batch_size": 32, "evaluations": 1}
    result, _ = train_cell(
        make_cell(**{**cell.model_dump(), "schedule": short, "execution": "eager"}), folder / "runs"
    )
    assert result["outcome"] == "finished"
    assert result["test_error"] < 0.2


def test_the_suite_the_head_and_the_section_make_rows(folder, marginbench):
    head = ["--plugin", "my_head.py", "--head", "wide-angle:m=0.3"]
    done = marginbench("run", "my_suite.py", "--size", "small", *head)
    for row in ("softmax", "am-softmax m=0.3 s=30", "wide-angle m=0.3"):
        assert row in done.stdout
    assert "wide-angle" in marginbench("run", "digits", "--dry-run", *head).stdout
    names = {"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}
    exec(block_with('results("digits"'), names)
    assert set(names["frame"]["state"]) == {"not started"}
    names["frame"] = results("my_suite.py", "runs", size="small")
    exec(block_with("load_trained(frame"), names)
    assert names["predicted"].shape == (2,)
    use_what_was_trained(names["frame"]["folder"].iloc[0], folder, marginbench)
    shown = ["--plugin", "my_section.py", "--section", "slowest"]
    assert marginbench("report", "digits", *shown).returncode == 0
    marginbench("report", "my_suite.py", "--size", "small", *shown)
    assert "The five slowest cells" in (folder / "runs/scales-small/report/index.html").read_text()


def use_what_was_trained(cell, folder, marginbench):
    """The README's two commands, with one of the cells as CELL."""
    (folder / "new-birds").mkdir()
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(folder / "new-birds" / "1.png")
    for verb in ("export", "embed"):
        (line,) = [line for line in COMMANDS if line.startswith(f"marginbench {verb} CELL")]
        words = line.replace("CELL", shlex.quote(str(cell))).split()[1:]
        done = marginbench(*words, "--data", str(folder))
        assert done.returncode == 0, done.stderr
    assert (folder / "model.onnx").is_file()
    with np.load(folder / "features.npz") as found:
        assert len(found["features"]) == len(found["files"]) == 1


def test_own_images_are_trained_on(folder, marginbench):
    random = np.random.default_rng(0)
    for number, class_folder in enumerate(
        f"{part}/{kind}" for part in ("train", "test") for kind in "ab"
    ):
        (folder / "birds" / class_folder).mkdir(parents=True)
        for index in range(8):
            pixels = random.integers(0, 100 + 50 * (number % 2), (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "birds" / class_folder / f"{index}.png")
    file = folder / "birds.py"
    file.write_text(file.read_text().replace("iterations=500, batch_size=32", SHORT))
    done = marginbench("run", "birds.py", "--data", ".", "--seeds", "1")
    assert "l-softmax m=2" in done.stdout, done.stderr
    # The scales that README.md asks for.
    (heads,) = re.findall(r"`head=(\[component.*?\])`", README, flags=re.DOTALL)
    cells = grid(head=eval(heads, {"component": component}), **OTHERS)
    assert [cell.head.parameters["s"] for cell in cells] == [4.0, 10.0, 30.0]


def test_the_search_is_as_it_says(folder, marginbench):
    names = {}
    exec(block_with("def search_space("), names)
    assert set(names["search_space"].__func__(None, 10)) == {"m", "s", "weight"}
    done = marginbench("tune", "my_search.py", "--dry-run")
    assert "search: 2 heads in 1 setting, 8 trials each" in done.stdout, done.stderr
    assert "16 cells, 0 finished, 16 to run" in done.stdout


SHORT = "iterations=20, batch_size=8, evaluations=2"
OTHERS = {
    "data": "digits",
    "backbone": "small",
    "schedule": {"iterations": 1, "batch_size": 8, "evaluations": 1},
}


@pytest.mark.parametrize("name", ["README.md", "docs/cluster.md"])
def test_profiles_are_ones(name, folder):
    (profile,) = re.findall(r"```toml\n(.*?)```", DOCUMENTS[name], flags=re.DOTALL)
    (folder / "marginbench.toml").write_text(profile)
    assert make_settings(read_profile("gpu")).hours == 4


@pytest.mark.parametrize("name", [*DOCUMENTS, "CHANGELOG.md"])
def test_what_is_linked_is_there(name):
    for target in re.findall(r"\]\((?!http)(.*?)\)", (ROOT / name).read_text()):
        assert (ROOT / name).parent.joinpath(target).is_file(), target


OTHER_COMMANDS = {
    *("--exclude", "--mpi"),  # sbatch, srun
    "--nv",  # apptainer
    "--ignore-existing",  # rsync
}


def test_options_and_files_spoken_of_exist():
    text = "\n".join(text for name, text in DOCUMENTS.items() if name != "CONTRIBUTING.md")
    text = re.sub(r"torchrun .*? -m ", "", text)
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text))
    commands = main.commands.values()
    known = {o for c in commands for p in c.get_params(click.Context(c)) for o in p.opts}
    assert named - known <= {"--help", *OTHER_COMMANDS}
    for file in re.findall(r"(?:python|`)\s?((?:benchmarks|tests|marginbench)/[\w/.]+\.py)", text):
        assert (ROOT / file).is_file(), file
