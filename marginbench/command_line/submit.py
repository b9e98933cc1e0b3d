"""What ``submit`` does: find the cells that are to be trained, and submit them as job arrays."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from marginbench.command_line.live_display import (
    make_console,
    print_cells,
    print_damaged,
    print_unread,
)
from marginbench.command_line.search_messages import print_notes, search_notes
from marginbench.command_line.suite_selection import SuiteSelection
from marginbench.dispatch.slurm.array_plan import batches, plan_arrays
from marginbench.dispatch.slurm.cell_states import (
    CellState,
    SuiteOverview,
    describe_other_cells,
    describe_states,
)
from marginbench.dispatch.slurm.commands import LocalSlurm, SlurmLimits
from marginbench.dispatch.slurm.inspection import inspect_suite
from marginbench.dispatch.slurm.settings import ClusterSettings, make_settings, read_profile
from marginbench.dispatch.slurm.submission import FOLDER, Submission
from marginbench.dispatch.slurm.submissions import last_settings
from marginbench.dispatch.slurm.submitting import (
    Submitted,
    check_local,
    check_path,
    submit_arrays,
    submit_locally,
)
from marginbench.errors import UserError
from marginbench.plugins.registrations import check_known, plugin_files
from marginbench.runs.code_version import changes, code_version
from marginbench.runs.environment import check_environment
from marginbench.runs.lease import Lease
from marginbench.runs.lease_state import read_lease
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.stale_results import code_notes, is_stale
from marginbench.runs.suite_runs import SuiteRun, check_writable
from marginbench.text import count

SUBMITTABLE = {
    CellState.NOT_SUBMITTED,
    CellState.NOT_STARTED,
    CellState.STOPPED,
    CellState.CANCELLED,
    CellState.LOST,
}
LOCK_POLL_SECONDS = 0.5


def submit_suite(
    selection: SuiteSelection,
    *,
    profile: str | None,
    given: dict[str, Any],
    retry_failed: bool,
    retrain_stale: bool,
    dry_run: bool,
    suite_run: SuiteRun | None = None,
) -> int:
    """Submit the cells that are neither done nor in the queue.

    ``given`` are the settings of the command line, None where not given. With ``retrain_stale``,
    results of other code or images are set aside. With ``suite_run``, its cells; else those of the
    selection.

    Returns:
        Exit status: 0, or 1 if not all of them could be submitted.

    Raises:
        UserError: an unknown suite, profile or setting, a folder that cannot be written, no SLURM
            here, or SLURM refuses the first array.
    """
    console = make_console()
    if not selection.tuned and (selection.trials or selection.repeats):
        raise UserError("--trials and --repeats are of a search; allowed: with --tuned")
    if suite_run is None:
        suite_run = selection.open_search() if selection.tuned else selection.open()
    for section in suite_run.suite.sections or ():
        # Before any training: the report would be refused.
        check_known("section", section)
    check_environment()
    slurm = LocalSlurm()
    settings = _settings(console, suite_run, profile, given, slurm)
    check_path(suite_run.folder)
    limits = slurm.limits if settings.executor == "slurm" else SlurmLimits("local", 1, 1)

    def find_cells() -> tuple[list[RunFolder], list[RunFolder]]:
        """The cells to submit, and those of them whose results are to be set aside."""
        overview = inspect_suite(suite_run, slurm)
        if overview.queue_error and not dry_run:
            raise UserError(f"what is in the queue cannot be known: {overview.queue_error}")
        wanted = SUBMITTABLE | {CellState.FAILED} if retry_failed else SUBMITTABLE
        todo = [cell.folder for cell in overview.asked if cell.state in wanted]
        stale = [c.folder for c in overview.cells if retrain_stale and is_stale(c.folder, c.status)]
        _print_summary(console, suite_run, overview, len(todo) + len(stale), retry_failed)
        print_unread(console, [folder.cell for folder in todo + stale])
        return todo + stale, stale

    if dry_run:
        _print_plan(console, suite_run, settings, limits, find_cells()[0])
        return 0
    check_local(settings)
    check_writable(suite_run.folder / FOLDER)
    with _lock(console, suite_run.folder / FOLDER) as lease:
        todo, stale = find_cells()
        if not todo:
            if selection.tuned:
                # Fewer trials than before are a search of their own.
                suite_run.record()
            print_notes(console, search_notes(suite_run))
            return 0
        submission = Submission.create(
            suite_run.folder, settings, limits.cluster, plugin_files(), code_version()
        )
        try:
            with _set_aside(stale):
                if settings.executor == "local":
                    submitted = submit_locally(submission, settings, todo)
                else:
                    suite = suite_run.suite.name
                    submitted = submit_arrays(submission, suite, settings, limits, todo, lease)
        finally:
            # Refused, it is removed: then none of its cells was ever submitted.
            if submission.path.exists():
                suite_run.record()
    status = _print_submitted(console, settings, submitted, len(todo))
    print_notes(console, search_notes(suite_run))
    return status


def _settings(
    console: Console,
    suite_run: SuiteRun,
    profile: str | None,
    given: dict[str, Any],
    slurm: LocalSlurm,
) -> ClusterSettings:
    """What is given on the command line, then the profile, or else the last submission's.

    Local processes train on a GPU each if this machine has one, and else on the CPU.
    """
    layers = [given]
    if profile is not None:
        if profile in suite_run.suite.sizes:
            console.print(f"[yellow]note[/]: a suite's scale is --size: --size {profile}")
        layers.append(read_profile(profile))
    elif (last := last_settings(suite_run.folder, slurm, given.get("executor"))) is not None:
        layers.append(last)
        console.print("settings not given are those of the last submission")
    if next((layer["executor"] for layer in layers if layer.get("executor")), None) == "local":
        from marginbench.dispatch.slurm.local_executor import local_gpus

        layers.append({"gpus": min(1, len(local_gpus()))})
    return make_settings(*layers)


@contextlib.contextmanager
def _set_aside(folders: list[RunFolder]) -> Iterator[None]:
    """Without results, the cells are trained; the results come back if none is submitted."""
    try:
        for folder in folders:
            folder.set_result_aside()
        yield
    except BaseException:
        for folder in folders:
            folder.put_result_back()
        raise


@contextlib.contextmanager
def _lock(console: Console, folder: Path) -> Iterator[Lease]:
    """One submitter of a suite at a time, on whatever machine; a dead one is replaced."""
    waiting = False
    while (lease := Lease.acquire(folder)) is None:
        if not waiting:
            holder = read_lease(folder)
            who = holder.owner_text() if holder is not None else "another process"
            console.print(f"waiting for {who}, which is submitting this suite")
            waiting = True
        time.sleep(LOCK_POLL_SECONDS)
    with lease:
        yield lease


def _print_summary(
    console: Console, suite_run: SuiteRun, overview: SuiteOverview, todo: int, retry_failed: bool
) -> None:
    console.print(
        f"{suite_run.suite.name}: {count(len(overview.asked), 'cell')}: "
        f"{describe_states(overview.asked)}; {todo} to submit"
    )
    if not retry_failed and any(cell.state == CellState.FAILED for cell in overview.asked):
        console.print("  failed cells are submitted again with --retry-failed")
    for line in suite_run.unread + describe_other_cells(overview):
        console.print(f"  {escape(line)}")
    for note in code_notes((cell.folder, cell.status) for cell in overview.asked):
        console.print(f"[yellow]note[/]: {escape(note)}", soft_wrap=True)
    for cell in overview.asked:
        if cell.state == CellState.DAMAGED:
            print_damaged(console, cell.folder, cell.note)
    if overview.submissions:
        for change in changes(overview.submissions[-1].content.code, code_version()):
            console.print(f"[yellow]note[/]: changed since the last submission: {escape(change)}")


def _print_plan(
    console: Console,
    suite_run: SuiteRun,
    settings: ClusterSettings,
    limits: SlurmLimits,
    todo: list[RunFolder],
) -> None:
    """What would be submitted, and the script of the first array; nothing is written."""
    print_cells(console, suite_run, todo)
    if not todo or settings.executor == "local":
        return
    from marginbench.dispatch.slurm.executor import sbatch_script, slurm_executor

    jobs = batches(todo, settings.cells_per_job)
    arrays = plan_arrays(len(jobs), limits.array_size, settings.max_parallel)
    size, slot = arrays[0]
    executor = slurm_executor(
        suite_run.folder / FOLDER / "ID" / "jobs",
        suite_run.suite.name,
        settings,
        comment="marginbench ID 0",
        parallel=slot.parallel,
    )
    cut = f"{count(len(jobs), 'job')} in {count(len(arrays), 'job array')}"
    console.print(f"{cut}; the first one's script:")
    console.print(escape(sbatch_script(executor, size)), soft_wrap=True)


def _print_submitted(
    console: Console, settings: ClusterSettings, submitted: Submitted, todo: int
) -> int:
    """Print what was submitted; the exit status."""
    cells, ids = count(submitted.cells, "cell"), submitted.ids
    if settings.executor == "local":
        console.print(f"started {cells} in {count(len(ids), 'local job')}")
    else:
        console.print(f"submitted {cells} in {count(len(ids), 'job array')}: {', '.join(ids)}")
    if not submitted.problem:
        return 0
    console.print(
        f"[yellow]{todo - submitted.cells} not submitted[/]: {escape(submitted.problem)}; "
        "submit again when the queue has room"
    )
    return 1
