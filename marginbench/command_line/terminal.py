"""The terminal: what is printed is text, whatever characters it came with."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from marginbench.text import printable


class Terminal(Console):
    """A rich console that prints nothing that the terminal would obey, its own styles excepted."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich's; control characters in texts are replaced by visible signs."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


def command_line() -> str:
    """The command that is running, as it may be typed again."""
    return shlex.join(["marginbench", *sys.argv[1:]])
