"""Suites and grids: the product, the registry, a user's own file."""

import pytest

from marginbench.errors import UserError
from marginbench.experiments.cell_fields import Schedule
from marginbench.experiments.grids import component, grid, parse_component
from marginbench.experiments.suites import find_suite, suite, suite_names
from marginbench.runs.suite_runs import open_suite

SCHEDULE = Schedule(iterations=10, batch_size=8, evaluations=2)


def test_a_grid_is_the_product_of_its_lists():
    cells = grid(
        data="digits",
        backbone=["small", component("small", features=2)],
        head=["softmax", component("l-softmax", m=2), "arcface"],
        schedule=SCHEDULE,
        seed=[0, 1],
    )
    assert len(cells) == 2 * 3 * 2
    assert [cell.seed for cell in cells[:2]] == [0, 1]
    assert {cell.head.name for cell in cells} == {"softmax", "l-softmax", "arcface"}
    assert {cell.execution for cell in cells} == {"fused"}
    both = grid(
        data="digits",
        backbone="small",
        head="softmax",
        schedule=SCHEDULE,
        execution=["eager", "fused"],
    )
    assert [cell.execution for cell in both] == ["eager", "fused"]


def test_digits_has_every_core_head_in_eight_seeds():
    cells = [cell for cell in find_suite("digits").cells() if cell.setting == "ten digits"]
    rows = {(cell.head.name, cell.head.parameters.get("m")) for cell in cells}
    assert len(cells) == 8 * 12
    for head in ("l-softmax", "a-softmax"):
        assert {(head, 2), (head, 3), (head, 4)} <= rows
    names = {name for name, _ in rows}
    assert names == {
        *("softmax", "hinge", "contrastive", "l-softmax", "a-softmax", "am-softmax", "arcface")
    }


def test_a_users_file_is_a_suite(tiny_suite, tmp_path):
    run = open_suite(str(tiny_suite), tmp_path / "runs")
    assert run.suite.name == "tiny"
    assert len(run.runs) == 4
    assert not (tmp_path / "runs").exists()


def test_only_and_seeds_choose(tiny_suite, tmp_path):
    run = open_suite(str(tiny_suite), tmp_path, seeds=3, only=["softmax"])
    assert [r.cell.seed for r in run.runs] == [0, 1, 2]
    assert run.of == 6


def test_a_further_head_joins_every_comparison_and_seed(tiny_suite, tmp_path):
    run = open_suite(str(tiny_suite), tmp_path, more_heads=["arcface:m=0.2,s=8"])
    added = [r.cell for r in run.runs if r.cell.head.name == "arcface"]
    assert [cell.seed for cell in added] == [0, 1]
    assert added[0].head.parameters["m"] == 0.2
    assert {cell.comparison for cell in added} == {run.runs[0].cell.comparison}


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("softmax", {}),
        ("arcface:m=0.2,s=8", {"m": 0.2, "s": 8}),
        ("hinge:norm=L2", {"norm": "L2"}),
        ("softmax:bias=True", {"bias": True}),
    ],
)
def test_heads_are_read_as_typed(text, parameters):
    assert parse_component(text).parameters == parameters


@pytest.mark.parametrize("text", ["arcface:m", "arcface:=3", "arcface:m=,s=2"])
def test_a_head_typed_wrongly_is_refused(text):
    with pytest.raises(UserError, match="NAME:PARAMETER=VALUE"):
        parse_component(text)


def test_the_same_cell_twice_is_refused(tmp_path):
    file = tmp_path / "twins.py"
    file.write_text(
        "from marginbench import Schedule, component, grid, suite\n"
        "@suite('twins')\n"
        "def twins(seeds):\n"
        "    return grid(data='digits', backbone='small',\n"
        "        head=['am-softmax', component('am-softmax', m=0.35)],\n"
        "        schedule=Schedule(iterations=10, batch_size=8, evaluations=2), seed=0)\n"
    )
    with pytest.raises(UserError) as refusal:
        open_suite(str(file), tmp_path)
    for word in ("'twins'", "same cell twice", "number 1", "number 2", "am-softmax"):
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import nothing_of_that_name\n", ["line 1", "ModuleNotFoundError"]),
        ("def f(:\n", ["line 1", "SyntaxError"]),
        ("x = 1\n", ["exactly one @suite", "none"]),
        (
            "from marginbench import suite\n@suite('empty')\ndef f(seeds):\n    return []\n",
            ["'empty' has no cells"],
        ),
        (
            "from marginbench import suite\n@suite('odd')\ndef f(seeds):\n    return [3]\n",
            ["'odd' yields 3"],
        ),
        (
            "from marginbench import suite\n@suite('Bad Name')\ndef f(s): ...\n",
            ["Bad Name"],
        ),
    ],
)
def test_a_suite_file_that_is_wrong_says_where(tmp_path, content, words):
    file = tmp_path / "wrong.py"
    file.write_text(content)
    with pytest.raises(UserError) as refusal:
        open_suite(str(file), tmp_path)
    for word in words:
        assert word in str(refusal.value)


DECLARATION = """
from marginbench import Optimiser, Schedule, component, grid, suite
@suite("NAME", DECLARED)
def declare(SEEDS):
    BODY
"""
GRID = """return grid(data="digits", backbone="small", head=component("arcface", m=M), seed=seeds,
        schedule=Schedule(iterations=4, batch_size=8, evaluations=1), optimiser=OPTIMISER)"""


def write_suite(folder, name, *, declared="seeds=1", seeds="seeds", body=GRID, m="0.1", rate="0.1"):
    file = folder / f"{name}.py"
    body = body.replace("OPTIMISER", f"Optimiser(learning_rate={rate})").replace("M)", f"{m})")
    text = DECLARATION.replace("NAME", name).replace("DECLARED", declared)
    file.write_text(text.replace("SEEDS", seeds).replace("BODY", body))
    return file


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("raises", {"body": "raise ValueError('one\\ntwo')"}, ["line 5: ValueError: one two"]),
        ("silent", {"body": "return None"}, ["line 3: it returns None", "a list of cells"]),
        ("number", {"body": "return 7"}, ["line 3: it returns 7"]),
        ("deaf", {"seeds": ""}, ["line 3: TypeError", "takes 0 positional arguments"]),
        ("exits", {"body": "raise SystemExit(0)"}, ["line 5: it ends the program"]),
        (
            "text",
            {"declared": "seeds='three'"},
            ["line 3", "seeds = 'three'", "integer from 1 to 10,000"],
        ),
        ("zero", {"declared": "seeds=0"}, ["line 3", "seeds = 0 ", "from 1 to 10,000"]),
        ("many", {"declared": "seeds=10**20"}, ["line 3", "seeds = 1000", "64 bits"]),
        ("sizes", {"declared": "sizes={'../x': 1}"}, ["size name '../x'"]),
        ("rate", {"rate": "float('inf')"}, ["line 6", "learning_rate = inf", "finite"]),
        ("long", {"m": "10**5000"}, ["'arcface': m = (int that cannot be printed)", "64 bits"]),
        ("based", {"declared": "baseline='arcfase'"}, ["baseline = 'arcfase'", "heads: arcface"]),
        (
            "part",
            {"declared": "sections='comparison'"},
            ["= 'comparison'", "list of text"],
        ),
    ],
)
def test_a_suite_that_is_wrong_is_reported_in_one_line(tmp_path, name, wrong, words):
    file = write_suite(tmp_path, name, **wrong)
    with pytest.raises(UserError) as refusal:
        open_suite(str(file), tmp_path)
    assert "\n" not in str(refusal.value)
    for word in [file.stem, *words]:
        assert word in str(refusal.value)


@pytest.mark.parametrize("seeds", [0, 10_001, 99999999999999999999])
def test_a_number_of_seeds_that_makes_no_sense_is_refused(tiny_suite, tmp_path, seeds):
    with pytest.raises(UserError, match=f"seeds = {seeds} is not allowed; allowed: 1 to 10,000"):
        open_suite(str(tiny_suite), tmp_path, seeds=seeds)


def test_a_name_too_long_for_a_folder_is_refused():
    with pytest.raises(UserError, match="at most 60"):
        suite("x" * 61)(lambda seeds: [])


@pytest.mark.parametrize("text", ["m=" + "-" * 30_000 + "1", "m={[]}", "m=" + "9" * 20_000])
def test_a_value_that_python_cannot_read_is_a_text(text):
    assert parse_component(f"arcface:{text}").parameters == {"m": text[2:]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digit", ["unknown suite 'digit'", "did you mean 'digits'"]),
        ("nowhere/suite.py", ["nowhere/suite.py", "no such file"]),
        ("x" * 20_000, ["unknown suite 'xxx", "(20,002 characters)"]),
        ("x" * 20_000 + ".py", ["suite file 'xxx", "File name too long"]),
        ("~nobody-of-that-name/suite.py", ["suite file '~nobody", "no such file"]),
    ],
)
def test_an_unknown_suite_is_named(name, words, tmp_path):
    with pytest.raises(UserError) as refusal:
        open_suite(name, tmp_path)
    for word in words:
        assert word in str(refusal.value)


def test_only_names_a_head_that_the_suite_lacks(tiny_suite, tmp_path):
    with pytest.raises(UserError, match="no cell with the head 'arcface'"):
        open_suite(str(tiny_suite), tmp_path, only=["arcface"])
    with pytest.raises(UserError, match="unknown head 'arcfase'"):
        open_suite(str(tiny_suite), tmp_path, only=["arcfase"])


def test_a_suite_name_taken_twice_is_refused():
    assert "digits" in suite_names()
    with pytest.raises(UserError, match="'digits' is registered twice"):
        suite("digits")(lambda seeds: [])


def test_declaring_cells_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from marginbench.experiments.suites import find_suite; "
        "find_suite('digits').cells(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["./nothing", "nothing.py", "some/folder/"])
def test_a_suite_file_that_is_not_there_is_called_one(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some/folder").mkdir(parents=True)
    with pytest.raises(UserError, match=r"suite file .* no such file; allowed: the path"):
        find_suite(name)


@pytest.mark.parametrize("text", ["arcface:m=0.3,m=0.4", "arcface:m=1,s=2, m =1", "pml:X:a=1,a=1"])
def test_a_parameter_that_is_typed_twice_is_refused(text):
    with pytest.raises(UserError, match=r"it gives '[ma]' twice; allowed: each parameter once"):
        parse_component(text)
