"""The first page of help, and options that are given twice."""

import click
import pytest
from click.testing import CliRunner

from marginbench.command_line import main


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_no_line_of_help_is_cut_off(columns):
    shown = CliRunner().invoke(main, ["--help"], terminal_width=columns).output
    assert "..." not in shown.partition("Commands:")[2]
    letters = "".join(shown.split())
    for name, verb in main.commands.items():
        with click.Context(verb):
            first = name + verb.get_short_help_str(10_000)
        assert "".join(first.split()) in letters
    assert max(map(len, shown.splitlines())) <= columns


def single_options():
    return [
        (name, option.opts[0])
        for name, verb in main.commands.items()
        for option in verb.params
        if isinstance(option, click.Option) and not (option.multiple or option.is_flag)
    ]


@pytest.mark.parametrize(("verb", "option"), single_options())
def test_an_option_that_is_given_twice_is_refused(verb, option):
    for words in ([option, "5", option, "6"], [f"{option}=5", option, "6"]):
        done = CliRunner().invoke(main, [verb, *words])
        assert done.exit_code == 2
        assert "is given twice; allowed: once" in done.output


def test_an_option_for_several_values_may_be_repeated():
    done = CliRunner().invoke(main, ["run", "no-such-suite", "--head", "a", "--head", "b"])
    assert "twice" not in done.output
