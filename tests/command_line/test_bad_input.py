"""What the command says of input that is not right: one line."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "digitz"], ["unknown suite 'digitz'", "did you mean 'digits'"]),
        (["run", "none.py"], ["none.py", "no such file"]),
        (["run", "digits", "--only", "softmix"], ["unknown head 'softmix'", "softmax"]),
        (["run", "digits", "--only", "softmax,softmix"], ["unknown head 'softmix'"]),
        (["status", "digits", "--only", "softmax,"], ["--only 'softmax,'", "a name is empty"]),
        (["run", "digits", "--only", ""], ["--only ''", "a name is empty"]),
        (["run", "digits", "--head", "arcface:m=9"], ["'arcface'", "m = 9", "allowed"]),
        (["run", "digits", "--head", "arcface:q=9"], ["'arcface'", "'q'", "m, s"]),
        (["run", "digits", "--plugin", "nothing.py"], ["nothing.py", "no such file"]),
        (["run", "digits", "--runs", "/proc/nowhere"], ["/proc/nowhere", "cannot be written"]),
        (["run", "digits", "--runs", ""], ["--runs ''", "is empty", "allowed: a folder"]),
        (["status", "digits", "--runs", "x" * 300], ["--runs 'xxx", "File name too long"]),
        (["status", "digits", "--runs", "x/" * 1900], ["--runs 'x/x", "File name too long"]),
        (["cancel", "digits", "--runs", "/dev/null"], ["--runs '/dev/null'", "it is a file"]),
        (["logs", "digits", "x", "--runs", "/dev/null/x"], ["'/dev/null/x'", "Not a directory"]),
        (["run", "digits", "--data", ""], ["--data ''", "is empty"]),
        (["run", "digits", "--seeds", "9" * 20], ["seeds = 9999", "1 to 10,000"]),
        (["run", "digits", "--checkpoint-seconds", "nan"], ["--checkpoint-seconds", "finite"]),
        (["status", "digits", "--every", "inf"], ["--every", "finite"]),
        (["run", "digits", "--plugin", "x" * 300 + ".py"], ["plug-in file 'xxx", "too long"]),
        (["run", "digits", "--head", "l-softmax:m=" + "9" * 400], ["m = 999", "64 bits"]),
        (["run", "digits", "--head", "x" * 20_000], ["unknown head 'xxx", "(20,002 characters)"]),
        (["heads", "a\x1b[31m"], ["unknown head 'a\\x1b[31m'"]),
        (["run", "digits", "--seeds", "0"], ["--seeds"]),
        (["run", "digits", "--device", "tpu"], ["--device", "cpu"]),
        (["report", "digits", "--section", "nosection"], ["unknown section", "comparison"]),
        (["heads", "nohead"], ["unknown head 'nohead'"]),
        (
            ["run", "digits", "--profile", "small"],
            ["No such option '--profile'; it is an option of submit", "scale is --size"],
        ),
        (["report", "digits", "--workers", "2"], ["'--workers'; it is an option of run"]),
        (["rum", "digits"], ["No such command 'rum'"]),
    ],
)
def test_bad_input_gets_one_clear_message(marginbench, arguments, words, tmp_path):
    done = marginbench(*arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []


BROKEN = """
from marginbench import suite
@suite("broken", description="d\\x1b[31m")
def broken(seeds):
    raise ValueError("first\\n\\x1b[31msecond\\ud800")
"""


def test_a_broken_suite_or_file_costs_the_list_only_itself(marginbench, tiny_suite, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(0)\n")
    files = ["exits.py", "broken.py", tiny_suite]
    done = marginbench("suites", *(word for file in files for word in ("--plugin", file)))
    assert done.returncode == 1
    assert done.stderr == (
        "marginbench: plug-in file 'exits.py', line 2: it ends the program (SystemExit: 0); "
        "a plug-in must not\n"
    )
    listing = " ".join(done.stdout.split())
    assert "a suite for tests" in listing
    assert "digits-open" in listing
    assert "ValueError:" in listing
    assert "\x1b" not in listing


@pytest.mark.parametrize("verb", ["run", "status", "report", "submit", "cancel", "logs"])
def test_a_suites_own_error_is_one_line_of_text_for_every_verb(marginbench, tmp_path, verb):
    # A name of its own: a suite's name belongs to one file.
    file = tmp_path / f"{verb}.py"
    file.write_text(BROKEN.replace('"broken"', f'"broken-{verb}"'))
    done = marginbench(verb, file, *(["any"] if verb == "logs" else []))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"marginbench: suite 'broken-{verb}' in {file}, line 5: ValueError: first ␛[31msecond�\n"
    )


def test_a_plugin_that_ends_the_program_is_no_success(marginbench, tmp_path):
    (tmp_path / "exits.py").write_text("raise SystemExit\n")
    for words in (["run", "exits.py"], ["heads", "--plugin", "exits.py"], ["status", "exits.py"]):
        done = marginbench(*words)
        assert done.returncode == 1
        assert "'exits.py', line 1: it ends the program" in done.stderr


ODD_SETTING = """
from marginbench import Schedule, component, grid, suite
@suite("odd-setting", seeds=1)
def odd(seeds):
    return grid(
        setting="x\\x1b[31m" * 40,
        data="digits",
        backbone=component("small", widths=[4], features=2),
        head="softmax",
        schedule=Schedule(iterations=4, batch_size=32, evaluations=1),
        seed=seeds,
    )
"""


def test_a_long_setting_has_its_report_and_escapes_stay_out_of_the_terminal(marginbench, tmp_path):
    (tmp_path / "odd.py").write_text(ODD_SETTING)
    done = marginbench("report", "odd.py", "--section", "comparison", "--runs", "[/bold]")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("[[]/bold]/odd-setting/report/comparison-*.csv"))) == 1
    assert "[/bold]/odd-setting/report/index.html" in done.stdout
    status = marginbench("status", "odd.py")
    assert "1 cell: 1 not started" in status.stdout
    assert "\x1b" not in done.stdout + status.stdout


def test_a_plugin_that_does_not_import_is_named(marginbench_process, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text("import torch\n\nraise RuntimeError('half written')\n")
    done = marginbench_process("heads", "--plugin", plugin)
    assert done.returncode == 1
    assert "broken.py" in done.stderr
    assert "line 3: RuntimeError: half written" in done.stderr
    assert "Traceback" not in done.stderr
