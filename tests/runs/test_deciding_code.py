"""Which code decides a cell's numbers, and what is said of results that other code made."""

import itertools
import json
import subprocess
import sys

import pytest

from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.cells import make_cell
from marginbench.experiments.resolution import resolve_cell
from marginbench.plugins import source_modules
from marginbench.plugins.component import Component
from marginbench.plugins.loading import load_plugin_file
from marginbench.plugins.source_modules import source_module
from marginbench.runs import deciding_code as deciding
from marginbench.runs.cell_status import State
from marginbench.runs.deciding_code import NOT_DECIDING, deciding_code, libraries_of_parts
from marginbench.runs.stale_results import code_notes, is_stale
from marginbench.training.loop import Interrupted
from tests.conftest import tiny_cell, train_cell

HEAD = '''
import torch
from torch import nn

from marginbench import Head, register_head
from marginbench.heads import classifier_weight


@register_head("edited")
class Edited(Head):
    """A softmax."""

    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)

    def loss(self, features, labels):
        return nn.functional.cross_entropy(self.scores(features), labels)  # a mean

    def scores(self, features):
        return features @ self.weight.T
'''


@pytest.fixture(autouse=True)
def forget():
    """Each test reads the sources anew, and leaves none of its own behind."""
    yield
    reread()


def reread():
    """As a new process would, but for the engine's own files, which no test changes."""
    for function in (
        source_modules.plugin_source,
        deciding._deciding_code,
        deciding.read_sources,
    ):
        function.cache_clear()


@pytest.fixture(scope="module")
def head_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugin") / "edited_head.py"
    file.write_text(HEAD)
    load_plugin_file(file)
    return file


@pytest.fixture
def edit(head_file):
    """Replaces text in the head's file, as an editor would; undone after the test."""

    def replace(old, new):
        assert old in HEAD
        head_file.write_text(HEAD.replace(old, new))
        reread()

    yield replace
    head_file.write_text(HEAD)


@pytest.fixture
def edited(head_file):
    """A cell of the head in the file."""
    return tiny_cell("edited")


def notes_of(*folders):
    return code_notes((folder, folder.status()) for folder in folders)


def cell_with(data="digits", backbone="small", head="softmax"):
    return make_cell(
        data=Component(name=data),
        backbone=Component(name=backbone),
        head=Component(name=head),
        schedule=Schedule(iterations=4, batch_size=8, evaluations=1),
    )


@pytest.mark.parametrize(
    ("parts", "there", "absent"),
    [
        (
            {},
            ["losses/softmax", "heads/base", "training/step", "training/seeds"],
            ["losses/arcface", "heads/cosine"],
        ),
        (
            {"head": "arcface"},
            ["losses/arcface", "heads/additive", "heads/cosine"],
            ["losses/softmax"],
        ),
        ({"head": "l-softmax"}, ["heads/annealing", "heads/chebyshev"], ["losses/arcface"]),
        (
            {"data": "cifar10"},
            ["data/sources/cifar"],
            ["data/sources/digits", "data/sources/lfw"],
        ),
        ({"backbone": "mnist"}, ["backbones/table1"], ["backbones/timm_models"]),
        ({"backbone": "timm:resnet18"}, ["backbones/timm_models"], ["backbones/table1"]),
        (
            {},
            ["training/loop", "training/experiment", "evaluation/final"],
            ["runs/lease", "runs/run_folder", "experiments/cells", "plugins/parameters"],
        ),
    ],
)
def test_the_files_are_those_of_the_cells_parts(parts, there, absent):
    files = deciding_code(cell_with(**parts)).files
    assert {f"marginbench/{name}.py" for name in there} <= set(files)
    assert not {f"marginbench/{name}.py" for name in absent} & set(files)


def test_libraries_are_those_that_the_files_import():
    assert "scikit-learn" in deciding_code(cell_with()).libraries
    cifar = deciding_code(cell_with(data="cifar10", backbone="timm:resnet18")).libraries
    assert {"torch", "numpy", "timm"} <= set(cifar)
    assert "scikit-learn" not in cifar
    # Written to result.json, which is the same to the byte whatever the process.
    assert list(cifar) == sorted(cifar, key=str.lower)
    files = deciding_code(cell_with()).files
    assert list(files) == sorted(files)


def test_every_module_left_out_is_there():
    for name in NOT_DECIDING:
        assert source_module(name).name == name


def test_what_was_read_at_the_start_counts_whatever_becomes_of_the_files(monkeypatch):
    cells = [cell_with(head=head) for head in ("softmax", "arcface", "l-softmax")]
    expected = [deciding_code(cell) for cell in cells]
    reread()
    source_modules.source_module.cache_clear()
    source_modules.source_modules_in.cache_clear()
    deciding.read_sources()

    def gone(path, package):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(source_modules, "_parse", gone)
    assert [deciding_code(cell) for cell in cells] == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a mean", ""),
        ('"""A softmax."""', '"""A softmax, in other words,\n    over two lines."""'),
        ("import torch\n", "import torch\n\n\n# A comment.\n"),
        ("@register_head", '@suite("mine")\ndef mine(seeds):\n    return []\n\n\n@register_head'),
    ],
)
def test_what_decides_nothing_leaves_the_digest_as_it_is(old, new, edited, edit):
    before = deciding_code(edited)
    edit(old, new)
    assert deciding_code(edited).digest == before.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("features @ self.weight.T", "2 * features @ self.weight.T"),
        ("labels)  # a mean", 'labels, reduction="#mean")  # a mean'),
        ("        return features", '        "a text"\n        return -features'),
    ],
)
def test_another_loss_is_other_code(old, new, edited, edit):
    before = deciding_code(edited)
    edit(old, new)
    assert deciding_code(edited).digest != before.digest
    assert deciding_code(tiny_cell("softmax")).files.keys().isdisjoint({"edited_head.py"})


def test_a_hash_in_a_text_is_no_comment(edited, edit):
    edit("labels)  # a mean", 'labels, reduction="#mean")')
    first = deciding_code(edited)
    edit("labels)  # a mean", 'labels, reduction="#sum")')
    assert deciding_code(edited).digest != first.digest


def test_a_result_knows_its_code_and_nobody_elses_change_matters(tmp_path, edited, edit):
    _, of_edited = train_cell(edited, tmp_path)
    _, of_softmax = train_cell(tiny_cell("softmax"), tmp_path)
    record = of_edited.read_environment()["code"]
    assert record["files"] == deciding_code(edited).files
    assert {"torch", "numpy", "scikit-learn"} <= set(record["packages"])
    assert notes_of(of_edited, of_softmax) == []
    edit("features @ self.weight.T", "2 * features @ self.weight.T")
    assert is_stale(of_edited, of_edited.status())
    assert not is_stale(of_softmax, of_softmax.status())
    assert notes_of(of_edited, of_softmax) == [
        "1 result made by other code: edited_head.py changed; "
        "--retrain-stale (run, submit) trains such cells anew"
    ]


def rewrite(folder, name, **changes):
    path = folder.path / name
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_other_libraries_and_unknown_code_are_reported_and_not_stale(tmp_path):
    _, first = train_cell(tiny_cell("softmax"), tmp_path)
    _, second = train_cell(tiny_cell("arcface"), tmp_path)
    libraries = first.read_result()["libraries"]
    rewrite(first, "result.json", libraries=libraries | {"torch": "1.0.0"})
    rewrite(second, "result.json", code=None)
    assert notes_of(first, second) == [
        f"1 result made with other libraries: torch 1.0.0 → {libraries['torch']}",
        "1 result made by unknown code: it was not recorded yet",
    ]
    assert not any(is_stale(folder, folder.status()) for folder in (first, second))


@pytest.mark.parametrize("recorded", [None, 3, {"files": 3}, {"files": {"a.py": []}}])
def test_a_damaged_record_costs_the_words_only(recorded, tmp_path):
    _, folder = train_cell(tiny_cell(), tmp_path)
    rewrite(folder, "result.json", code="0" * 12, libraries=["torch"])
    rewrite(folder, "environment.json", code=recorded)
    (note,) = notes_of(folder)
    assert note.startswith("1 result made by other code: ")


def test_a_cell_goes_on_from_its_own_codes_checkpoint_only(tmp_path, edited, edit, capsys):
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(edited, tmp_path / "a", should_stop=lambda: next(steps) == 8)
    edit("  # a mean", "")
    assert train_cell(edited, tmp_path / "a")[1].read_environment()["trained_from"] == 8
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(edited, tmp_path / "b", should_stop=lambda: next(steps) == 8)
    edit("features @ self.weight.T", "2 * features @ self.weight.T")
    _, folder = train_cell(edited, tmp_path / "b")
    assert folder.read_environment()["trained_from"] == 0
    assert "was made by other code; training starts anew" in capsys.readouterr().out
    assert folder.status().state == State.DONE
    assert not is_stale(folder, folder.status())


def test_a_part_without_a_file_costs_nothing(monkeypatch):
    def unknown(field, name):
        raise source_modules.NotStatic(name)

    monkeypatch.setattr(deciding, "defining_module", unknown)
    reread()
    assert "marginbench/training/step.py" in deciding_code(resolve_cell(cell_with())).files


def test_a_process_that_others_are_forked_from_loads_what_their_cells_import_and_no_more():
    digits = tiny_cell()
    assert {"sklearn.datasets", "torch"} <= set(libraries_of_parts([digits]))
    timm = digits.model_copy(update={"backbone": Component(name="timm:resnet10t")})
    assert "timm" in libraries_of_parts([digits, timm])
    unknown = digits.model_copy(update={"data": Component(name="of-a-plug-in-not-loaded")})
    assert libraries_of_parts([unknown])
    code = (
        "import sys, marginbench.dispatch.worker_preload\n"
        "heavy = {'sklearn', 'scipy', 'pandas', 'timm', 'torchvision', 'matplotlib'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
