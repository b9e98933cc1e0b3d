"""Numbers and names as the report and the terminal print them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable

LONGEST_SLUG = 80
LONGEST_QUOTE = 200
# Control characters, those that turn the direction of writing, and halves of surrogate pairs.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_UNPRINTABLE_IN_A_LINE = re.compile(rf"{_UNPRINTABLE.pattern}|[\t\n\u2028\u2029]")


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction in percent, without the sign: "1.25"; "–" where there is none."""
    if fraction is None or math.isnan(fraction):
        return "–"
    return f"{100 * fraction:.{digits}f}"


def slug(text: str) -> str:
    """A text as part of a file name: lower case, words joined by hyphens, at most 80 characters.

    Of a longer one the beginning, and a hash that others with that beginning do not have.
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"
    if len(name) <= LONGEST_SLUG:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: LONGEST_SLUG - len(digest) - 1].rstrip('-')}-{digest}"


def distinct(names: Iterable[str], form: str = "{} ({})") -> list[str]:
    """The names in their order, a repeated one with a number: "cat", "dog", "cat (2)".

    Args:
        names: no two names of the result are equal, whatever these are.
        form: how name and number are written.
    """
    names = list(names)
    taken = set(names)
    found: dict[str, None] = {}
    for name in names:
        shown, number = name, 1
        while shown in found or (number > 1 and shown in taken):
            number += 1
            shown = form.format(name, number)
        found[shown] = None
    return list(found)


def printable(text: str) -> str:
    """The text, safe to print: a character that a terminal would obey becomes a visible sign.

    Newlines and tabs stay. The length does not change.
    """
    return _UNPRINTABLE.sub(_sign, text)


def printable_line(text: str) -> str:
    """A name or message as files and figures show it: in one line, no two texts alike.

    What :func:`printable` replaces is spelt out, newlines and tabs too: an escape as "\\x1b".
    """
    return _UNPRINTABLE_IN_A_LINE.sub(lambda found: ascii(found[0])[1:-1], text)


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    # Unicode has a symbol for each of ASCII's control characters.
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "\ufffd"


def quoted(value: object) -> str:
    """A value as a message shows it: its ``repr``; of a long one the beginning and the length."""
    try:
        text = repr(value)
    except Exception:
        # An integer of more than 4,300 digits, or an object of any class.
        return f"({type(value).__name__} that cannot be printed)"
    if len(text) <= LONGEST_QUOTE:
        return text
    return f"{text[: LONGEST_QUOTE // 2]}... ({len(text):,} characters)"


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
