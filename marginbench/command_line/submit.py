"""What ``submit`` does: find what is to be done, and hand it over as job arrays."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from marginbench.command_line.live_display import make_console
from marginbench.dispatch.slurm.array_plan import plan_arrays
from marginbench.dispatch.slurm.cell_states import Overview, Place, look, told_elsewhere, told_left
from marginbench.dispatch.slurm.commands import SlurmHere, SlurmLimits
from marginbench.dispatch.slurm.settings import ClusterSettings, make_settings, read_profile
from marginbench.dispatch.slurm.submissions import FOLDER, Submission, submissions
from marginbench.dispatch.slurm.submitting import batches, check_local, hand_over, start_here
from marginbench.errors import UserError
from marginbench.experiments.static_catalog import plugin_files
from marginbench.runs.code_version import changes, code_version
from marginbench.runs.deciding_code import is_stale
from marginbench.runs.lease import Lease
from marginbench.runs.lease_state import read_lease
from marginbench.runs.run_folder import RunFolder
from marginbench.runs.suite_runs import SuiteRun, check_writable, open_suite
from marginbench.text import count

OPEN = (Place.NOT_SUBMITTED, Place.NOT_STARTED, Place.STOPPED, Place.CANCELLED, Place.LOST)
LOCK_POLL_SECONDS = 0.5


def submit_suite(
    suite: str,
    runs: Path,
    *,
    seeds: int | None,
    size: str,
    only: tuple[str, ...],
    more_heads: tuple[str, ...],
    profile: str | None,
    given: dict[str, Any],
    retry_failed: bool,
    retrain_stale: bool,
    dry_run: bool,
) -> int:
    """Hand the cells that are neither done nor in the queue to the cluster.

    Args:
        suite, runs, seeds, size, only, more_heads: as for
            :func:`marginbench.runs.suite_runs.open_suite`.
        profile: name of a profile, or None.
        given: settings of the command line; None where not given.
        retry_failed: hand over the failed ones too.
        retrain_stale: hand over those too whose results are of other code or images; these results
            are set aside.
        dry_run: show what would be handed over.

    Returns:
        Exit status: 0, or 1 if not all of them could be handed over.

    Raises:
        UserError: an unknown suite, profile or setting, a folder that cannot be written, no SLURM
            here, or SLURM refuses the first array.
    """
    console = make_console()
    suite_run = open_suite(
        suite,
        runs,
        seeds=seeds,
        size=size,
        only=only,
        more_heads=more_heads,
        light=True,
        submitted=True,
    )
    _refuse_gone_heads(suite_run, only)
    slurm = SlurmHere()
    settings = _settings(console, suite_run, profile, given, slurm)
    limits = slurm.limits if settings.executor == "slurm" else SlurmLimits("local", 1, 1)
    if dry_run:
        return _show(console, suite_run, settings, slurm, retry_failed, retrain_stale)
    check_writable(suite_run.folder / FOLDER)
    with _lock(console, suite_run.folder / FOLDER) as lease:
        overview = look(suite_run, slurm)
        if overview.trouble:
            raise UserError(f"what is in the queue cannot be known: {overview.trouble}")
        stale = _stale(overview) if retrain_stale else []
        todo = [*_todo(overview, retry_failed), *stale]
        _tell(console, suite_run, overview, len(todo), retry_failed)
        if not todo:
            return 0
        check_local(settings)
        submission = Submission.create(
            suite_run.folder, settings, limits.cluster, plugin_files(), code_version()
        )
        with _set_aside(stale):
            if settings.executor == "local":
                return start_here(console, submission, settings, todo)
            return hand_over(console, submission, suite_run, settings, limits, todo, lease)


def _refuse_gone_heads(suite_run: SuiteRun, only: tuple[str, ...]) -> None:
    heads = {run.cell.head.name for run in suite_run.runs}
    for name in only:
        if name not in heads:
            raise UserError(
                f"suite {suite_run.suite.name!r} has no cell with the head {name!r}: those that "
                "were submitted before have left it; allowed: a head that it has now"
            )


def _settings(
    console: Console,
    suite_run: SuiteRun,
    profile: str | None,
    given: dict[str, Any],
    slurm: SlurmHere,
) -> ClusterSettings:
    """What is given on the command line, then the profile, or else the last submission's.

    Another cluster's partitions and the like mean nothing here, nor do a cluster's settings to
    local processes, which train on a GPU each if this machine has one, and else on the CPU.
    """
    layers = [given]
    if profile is not None:
        layers.append(read_profile(profile))
    else:
        for last in reversed(submissions(suite_run.folder)):
            executor = last.settings.executor
            there = executor == "local" or last.cluster == slurm.cluster
            if there and given.get("executor") in (None, executor):
                layers.append(last.content["settings"])
                told = "settings not given are those of the last submission"
                console.print(told, highlight=False)
                break
    if next((layer["executor"] for layer in layers if layer.get("executor")), None) == "local":
        from marginbench.dispatch.slurm.executor import local_gpus

        layers.append({"gpus": min(1, local_gpus())})
    return make_settings(*layers)


def _todo(overview: Overview, retry_failed: bool) -> list[RunFolder]:
    wanted = (*OPEN, Place.FAILED) if retry_failed else OPEN
    return [cell.folder for cell in overview.asked if cell.place in wanted]


def _stale(overview: Overview) -> list[RunFolder]:
    return [cell.folder for cell in overview.cells if is_stale(cell.folder, cell.status)]


@contextlib.contextmanager
def _set_aside(folders: list[RunFolder]) -> Iterator[None]:
    """Without results, the cells are trained; the results come back if none is handed over."""
    try:
        for folder in folders:
            folder.set_result_aside()
        yield
    except BaseException:
        for folder in folders:
            folder.put_result_back()
        raise


def _tell(
    console: Console, suite_run: SuiteRun, overview: Overview, todo: int, retry_failed: bool
) -> None:
    places = Counter(cell.place for cell in overview.asked)
    told = ", ".join(f"{places[place]} {place}" for place in Place if places[place])
    console.print(
        f"{suite_run.suite.name}: {count(len(overview.asked), 'cell')}: {told}; {todo} to submit",
        highlight=False,
    )
    if places[Place.FAILED] and not retry_failed:
        console.print("  failed cells are submitted again with --retry-failed", highlight=False)
    for line in suite_run.unread + told_left(overview) + told_elsewhere(overview):
        console.print(f"  {escape(line)}", highlight=False)
    for cell in overview.asked:
        if cell.place == Place.DAMAGED:
            console.print(f"[red]damaged[/]: {escape(cell.note)}", highlight=False)
            console.print(
                "  to train this cell again, move or delete its folder "
                f"{escape(str(cell.folder.path))}",
                highlight=False,
            )
    for change in _changes_since_last(overview):
        console.print(
            f"[yellow]note[/]: changed since the last submission: {escape(change)}",
            highlight=False,
        )


def _changes_since_last(overview: Overview) -> list[str]:
    if not overview.submissions:
        return []
    return changes(overview.submissions[-1].content["code"], code_version())


def _show(
    console: Console,
    suite_run: SuiteRun,
    settings: ClusterSettings,
    slurm: SlurmHere,
    retry_failed: bool,
    retrain_stale: bool,
) -> int:
    """What would be handed over, and the script of the first array; nothing is written."""
    overview = look(suite_run, slurm)
    todo = _todo(overview, retry_failed) + (_stale(overview) if retrain_stale else [])
    _tell(console, suite_run, overview, len(todo), retry_failed)
    for folder in todo:
        console.print(f"  {folder.path.name}", highlight=False, soft_wrap=True)
    if not todo or settings.executor == "local":
        return 0
    from marginbench.dispatch.slurm.executor import sbatch_script, slurm_executor

    jobs = batches(todo, settings.cells_per_job)
    arrays = plan_arrays(len(jobs), slurm.limits.array_size, settings.max_parallel)
    size, slot = arrays[0]
    executor = slurm_executor(
        suite_run.folder / FOLDER / "ID" / "jobs",
        suite_run.suite.name,
        settings,
        comment="marginbench ID 0",
        parallel=slot.parallel,
    )
    console.print(
        f"{count(len(jobs), 'job')} in {count(len(arrays), 'job array')}; the first one's script:",
        highlight=False,
    )
    console.print(escape(sbatch_script(executor, size)), highlight=False, soft_wrap=True)
    return 0


@contextlib.contextmanager
def _lock(console: Console, folder: Path) -> Iterator[Lease]:
    """One submitter of a suite at a time, on whatever machine; a dead one is replaced."""
    told = False
    while (lease := Lease.acquire(folder)) is None:
        if not told:
            holder = read_lease(folder)
            who = holder.owner_text() if holder is not None else "another process"
            console.print(f"waiting for {who}, which is submitting this suite", highlight=False)
            told = True
        time.sleep(LOCK_POLL_SECONDS)
    with lease:
        yield lease
