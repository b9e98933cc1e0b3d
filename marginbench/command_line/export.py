"""What ``export`` does: results, histories and figures as files for other programs."""

from __future__ import annotations

from pathlib import Path

from marginbench.command_line.live_display import make_console
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.errors import UserError
from marginbench.text import count


def export_suite(
    selection: SuiteSelection,
    *,
    csv: Path | None,
    parquet: Path | None,
    tensorboard: Path | None,
    figures: Path | None,
) -> int:
    """Write what is asked for, each into its folder.

    Returns:
        Exit status: 0.

    Raises:
        UserError: nothing is asked for, a library is missing, a folder cannot be written.
    """
    from marginbench.reporting import export
    from marginbench.runs.results import results

    wanted = {"--csv": csv, "--parquet": parquet, "--tensorboard": tensorboard}
    if not any([*wanted.values(), figures]):
        raise UserError(f"nothing to export; allowed: {', '.join([*wanted, '--figures'])}")
    suite_run = selection.open()
    frame = results(suite_run)
    writers = [
        (csv, "file", lambda folder: export.write_csv(frame, folder)),
        (parquet, "file", lambda folder: export.write_parquet(frame, folder)),
        (tensorboard, "run", lambda folder: export.write_tensorboard(frame, folder)),
        (figures, "figure", lambda folder: export.write_figures(frame, suite_run.suite, folder)),
    ]
    console = make_console()
    for folder, noun, write in writers:
        if folder is not None:
            number = len(export.exported(write, folder))
            console.print(f"{folder}: {count(number, noun)}", highlight=False, soft_wrap=True)
    return 0
