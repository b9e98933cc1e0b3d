"""The kit from the command line: a head or regulariser, or all of a file, and what holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from marginbench.errors import UserError
from marginbench.heads import head_class, head_names
from marginbench.plugins.loading import load_plugin_file
from marginbench.regularisers import regulariser_class, regulariser_names
from marginbench.testing.check_in_modes import CheckResult
from marginbench.testing.checks import check_head
from marginbench.testing.regulariser_checks import check_regulariser


@dataclass(frozen=True)
class HeadReport:
    """What the checks found of one head or regulariser.

    Attributes:
        name: of the head or regulariser.
        parameters: those that were set.
        results: one for each check.
    """

    name: str
    parameters: Mapping[str, Any]
    results: Sequence[CheckResult]

    @property
    def passed(self) -> bool:
        """Whether every check passed or does not apply."""
        return all(result.passed for result in self.results)


def report_head(
    target: str, parameters: Mapping[str, Any] | None = None, *, device: str = "cpu"
) -> list[HeadReport]:
    """Check a registered head, or every head that a file registers.

    Args:
        target: a head's name, or the path of a Python file (one that ends in ".py").
        parameters: of the head, in the place of its defaults.
        device: where the checks run.

    Raises:
        UserError: no such head or file, a file without heads, or parameters that a head refuses.
    """
    names = [target]
    if target.endswith(".py"):
        names = _names_of_file(target, "head", head_names, head_class)
    given = dict(parameters or {})
    return [HeadReport(name, given, check_head(name, device=device, **given)) for name in names]


def report_regulariser(
    target: str, parameters: Mapping[str, Any] | None = None, *, device: str = "cpu"
) -> list[HeadReport]:
    """Check a registered regulariser, or every one that a file registers; as :func:`report_head`.

    Raises:
        UserError: no such regulariser or file, a file without any, or parameters that one refuses.
    """
    names = [target]
    if target.endswith(".py"):
        names = _names_of_file(target, "regulariser", regulariser_names, regulariser_class)
    given = dict(parameters or {})
    return [HeadReport(n, given, check_regulariser(n, device=device, **given)) for n in names]


def print_checks(reports: Sequence[HeadReport], console: Console | None = None) -> None:
    """Print a table for each head or regulariser, and a line that sums up.

    Args:
        reports: what :func:`report_head` or :func:`report_regulariser` returned.
        console: where to; the standard output by default.
    """
    console = console or Console()
    for report in reports:
        settings = ", ".join(f"{key}={value!r}" for key, value in report.parameters.items())
        title = Text(f"{report.name} ({settings})" if settings else report.name)
        table = Table(title=title, title_justify="left")
        table.add_column("check", no_wrap=True)
        table.add_column("result", no_wrap=True)
        table.add_column("numbers", overflow="fold")
        for result in report.results:
            word, style = _verdict(result)
            table.add_row(result.name, Text(word, style=style), Text(result.detail))
        console.print(table)
        failed = [result.name for result in report.results if not result.passed]
        skipped = sum(result.skipped for result in report.results)
        held = len(report.results) - len(failed) - skipped
        summary = f"{report.name}: {held} hold, {len(failed)} fail, {skipped} not applicable"
        console.print(Text(summary + (f"; failed: {', '.join(failed)}" if failed else "")))


def _verdict(result: CheckResult) -> tuple[str, str]:
    if result.skipped:
        return "not applicable", "yellow"
    return ("holds", "green") if result.passed else ("fails", "bold red")


def _names_of_file(
    path: str, kind: str, names: Callable[[], list[str]], find: Callable[[str], type]
) -> list[str]:
    module = load_plugin_file(path).__name__
    found = [name for name in names() if find(name).__module__ == module]
    if not found:
        raise UserError(
            f"plug-in file {path!r} registers no {kind}: put @register_{kind}(NAME) above its class"
        )
    return found
