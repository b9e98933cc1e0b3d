"""Texts from outside: as file names, as quotations, and on the terminal."""

import io

from rich.table import Table
from rich.text import Text

from marginbench.command_line.terminal import Terminal
from marginbench.text import printable, quoted, slug


def test_a_file_name_has_at_most_80_characters_and_tells_texts_apart():
    one, other = slug("ten digits " * 30), slug("ten digits " * 30 + "2")
    assert one != other
    assert {len(one), len(other)} == {80}
    assert slug("2-D features") == "2-d-features"
    assert len(slug("x" * 80)) == 80
    assert slug("x" * 80) == "x" * 80


def test_what_a_terminal_would_obey_becomes_a_sign():
    assert printable("a\x1b[31mb\x07\x7f\x9b\u202e\ud800\tc\n") == "a␛[31mb␇␡���\tc\n"
    assert printable("θ ≥ 0 – “m” 猫") == "θ ≥ 0 – “m” 猫"


class Unprintable:
    def __repr__(self):
        raise ValueError("no")


def test_any_value_can_be_quoted():
    assert quoted("a") == "'a'"
    assert quoted(10**5000) == "(int that cannot be printed)"
    assert quoted(Unprintable()) == "(Unprintable that cannot be printed)"


def test_a_long_value_is_quoted_in_part():
    assert quoted("x" * 20_000) == "'" + "x" * 99 + "... (20,002 characters)"


def test_the_terminal_obeys_only_its_own_styles():
    file = io.StringIO()
    console = Terminal(file=file, force_terminal=True, color_system="standard", width=60)
    table = Table("name", min_width=40)
    table.add_row(Text("a\x1b]0;title\x07", style="red"))
    table.add_row("b\x1b[2J\ud800")
    console.print(table, "c\x1b[8m", highlight=False)
    written = file.getvalue()
    for text in ("␛]0;title", "b␛[2J�", "c␛[8m"):
        assert text in written
    assert "\x1b[31m" in written
    assert "\x1b]" not in written
    assert "\x1b[2J" not in written
    assert "\x1b[8m" not in written
