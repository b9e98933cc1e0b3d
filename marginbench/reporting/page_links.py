"""What the page links to for a file that it offers."""

from __future__ import annotations

import base64

MOST_EMBEDDED = 256 * 1024
"""Bytes; a larger file is read beside the page only."""


def csv_link(name: str, content: str) -> str:
    """The content itself, so that a page that is sent alone has it too; of a large one the name.

    Args:
        name: of the file beside the page.
        content: of the file.
    """
    encoded = content.encode()
    if len(encoded) > MOST_EMBEDDED:
        return name
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(encoded).decode()}"
