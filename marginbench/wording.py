"""Numbers and names as the report and the terminal print them."""

from __future__ import annotations

import math
import re


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction in percent, without the sign: "1.25"; "–" where there is none."""
    if fraction is None or math.isnan(fraction):
        return "–"
    return f"{100 * fraction:.{digits}f}"


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A name or message in one line that no terminal, page or file takes for more than a text.

    Control characters, lone surrogates and those that turn the direction of writing are spelt out:
    an escape is shown as "\\x1b".
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def slug(text: str) -> str:
    """A text as part of a file name: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def count(number: int, noun: str) -> str:
    """ "1 cell", "2 cells"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """ "8 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
