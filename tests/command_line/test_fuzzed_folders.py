"""Whatever is in a suite's folder, every verb ends with a word, and shows the other cells."""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from marginbench.command_line import main
from marginbench.runs.results import results
from marginbench.runs.suite_runs import SuiteRun, open_suite
from tests.runs.made_runs import write_run

OF_A_CELL = (
    *("cell.json", "result.json", "history.jsonl", "environment.json", "attempts.jsonl"),
    *("failure.json", "lease-1.json", "evaluation.npz", "log.txt", "checkpoint.pt"),
)
OF_THE_SUITE = ("cells.jsonl", "resolution.json", "until-decided.json", "report/made-from.json")
VERBS = {
    "status": ("status", "SUITE"),
    "run": ("run", "SUITE", "--dry-run"),
    "submit": ("submit", "SUITE", "--executor", "local", "--gpus", "0", "--dry-run"),
    "logs": ("logs", "SUITE", "KEY"),
    "cancel": ("cancel", "SUITE"),
}
SLOW_VERBS = {
    "report": ("report", "SUITE"),
    "compare": ("report", "SUITE", "--compare", "whole"),
    "both": ("report", "SUITE", "SUITE"),
    "export": ("export", "SUITE", "--csv", "out"),
}
SECONDS = 60
"""No verb takes longer: one that does waits for something."""

NASTY = (
    *("1e400", "-1e400", "NaN", "Infinity", "9" * 5000, "1e308", "-1", "0", "0.5", str(2**70)),
    *("null", "true", "[]", "{}", '""', '"x"', '"\\ud800"', '"\\u0000\\u001b[2J"', '"a/b"'),
    *('"' + "x" * 100_000 + '"', "[" * 5_000, "[" * 150 + "]" * 150, '{"a": ' * 150 + "1"),
    *('[[1], "x", null]', '{"max_seeds": 1e400}', '["softmax", 1]', '{"name": []}', "", "x"),
)
values = st.sampled_from(NASTY) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
).map(json.dumps)


def sparse(path):
    path.touch()
    os.truncate(path, 2**40)


KINDS = {
    "empty": lambda path: path.touch(),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "a link to a folder": lambda path: path.symlink_to("/proc"),
    "a socket": lambda path: bind(path),
    "a terabyte": sparse,
}


def bind(path):
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


@dataclass(repr=False)
class Whole:
    """A folder with the runs folder ``whole`` of a finished suite.

    Attributes:
        folder, suite, run: the folder, the suite's file, and the suite in its runs folder.
        rows: its results.
    """

    folder: Path
    suite: Path
    run: SuiteRun
    rows: list


@pytest.fixture(scope="module")
def whole(tiny_suite, tmp_path_factory):
    """A finished suite that nobody trained: two heads, two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    run = open_suite(str(tiny_suite), folder / "whole")
    for number, one in enumerate(run.runs):
        write_run(one, 0.1 + 0.01 * number)
        one.log.write_text("training from iteration 0 of 24\n")
        one.write_environment({"seconds_of_last_attempt": 1.0, "processor": "a CPU"})
    run.record()
    before = results(run).drop(columns="folder").to_json(orient="records", default_handler=str)
    return Whole(folder, tiny_suite, run, json.loads(before))


def call(folder, suite, key, verb):
    """A verb's exit status and all that it prints; an error in it is this test's."""
    printed = io.StringIO()
    replaced = {"SUITE": suite, "KEY": key}
    arguments = [str(replaced.get(word, word)) for word in verb]
    here = Path.cwd()
    os.chdir(folder)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main(arguments, prog_name="marginbench")
    except SystemExit as ended:
        return ended.code or 0, printed.getvalue()
    finally:
        signal.alarm(0)
        os.chdir(here)
    raise AssertionError("the command did not exit")


def places(value, path=()):
    """Every place in a JSON value: the steps that lead there."""
    found = [path]
    if isinstance(value, dict | list):
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*path, step))
    return found


def with_value_at(value, path, text):
    """The JSON text of a value, with another text in one place; None: the place is removed."""
    if not path:
        return text or ""
    inner = value
    for step in path[:-1]:
        inner = inner[step]
    if text is None:
        del inner[path[-1]]
        return json.dumps(value)
    inner[path[-1]] = "HERE"
    return json.dumps(value).replace('"HERE"', text, 1)


@st.composite
def damages(draw):
    """A function of a file's path that damages it, and words for it."""
    how = draw(st.sampled_from(["value", "value", "value", "bytes", "kind"]))
    if how == "kind":
        kind = draw(st.sampled_from(list(KINDS)))
        return f"{kind}", kind, None
    if how == "bytes":
        return "bytes", None, draw(st.binary(max_size=50))
    return "value", draw(st.integers(0, 2**20)), draw(values | st.none())


def apply(damage, path):
    how, what, content = damage
    original = path.read_text(errors="replace") if path.is_file() else "{}"
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if how in KINDS:
        KINDS[how](path)
    elif how == "bytes":
        path.write_bytes(content)
    else:
        # Of files with several lines the last one; of what is no JSON, another object.
        *lines, last = (original if path.suffix == ".json" else original.rstrip()).split("\n\n")
        if path.suffix == ".jsonl":
            *lines, last = original.rstrip().split("\n")
        try:
            value = json.loads(last)
        except ValueError:
            value = {"owner": {}, "progress": {"iteration": 1, "of": 2}, "error": "x", "final": 1}
        found = places(value)
        lines.append(with_value_at(value, found[what % len(found)], content))
        path.write_text("\n".join(lines) + "\n", errors="surrogatepass")


def check(whole, damage, name, verbs):
    """Damage one file of a copy; every verb ends with a word, the other cells are as before."""
    folder, run = whole.folder, whole.run
    runs = folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    shutil.copytree(folder / "whole", runs)
    hit = run.runs[0]
    path = runs / run.folder.name / (name if name in OF_THE_SUITE else f"{hit.path.name}/{name}")
    apply(damage, path)
    said = {}
    for verb in verbs:
        said[verb] = call(folder, whole.suite, hit.key, {**VERBS, **SLOW_VERBS}[verb])
        assert said[verb][0] in (0, 1, 2), (verb, said)
        assert "Traceback" not in said[verb][1], (verb, said)
    if name in OF_A_CELL:
        found = open_suite(str(whole.suite), runs)
        frame = results(found)
        after = frame.drop(columns="folder").to_json(orient="records", default_handler=str)
        assert json.loads(after)[1:] == whole.rows[1:]
        if frame["state"][0] == "damaged" and "status" in said:
            assert name in said["status"][1]
    return said


fuzz = settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzz
@given(damage=damages(), name=st.sampled_from((*OF_A_CELL, *OF_THE_SUITE)))
@example(damage=("value", 3, "1e400"), name="cell.json")
def test_every_verb_ends_with_a_word(whole, damage, name):
    check(whole, damage, name, VERBS)


@settings(fuzz, max_examples=2)
@given(damage=damages(), name=st.sampled_from((*OF_A_CELL, *OF_THE_SUITE)))
def test_reports_and_exports_end_with_a_word(whole, damage, name):
    check(whole, damage, name, SLOW_VERBS)
