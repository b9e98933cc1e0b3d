"""What ``submit`` does: find what is to be done, and hand it over as job arrays."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from marginbench.array_plan import plan_arrays
from marginbench.cell_places import Overview, Place, look
from marginbench.cluster_settings import ClusterSettings, make_settings, read_profile
from marginbench.code_version import changes, code_version
from marginbench.errors import UserError
from marginbench.lease import Lease, process_identity, read_lease
from marginbench.live_display import make_console
from marginbench.slurm_commands import SlurmLimits, queue_length, require_slurm, slurm_limits
from marginbench.static_catalog import plugin_files
from marginbench.store import RunFolder
from marginbench.submissions import FOLDER, Submission, submissions
from marginbench.suite_runs import SuiteRun, check_writable, open_suite
from marginbench.wording import count

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
    dry_run: bool,
) -> int:
    """Hand the cells that are neither done nor in the queue to the cluster.

    Args:
        suite, runs, seeds, size, only, more_heads: as for
            :func:`marginbench.suite_runs.open_suite`; size is its profile.
        profile: name of a profile, or None.
        given: settings of the command line; None where not given.
        retry_failed: hand over the failed ones too.
        dry_run: show what would be handed over.

    Returns:
        Exit status: 0, or 1 if not all of them could be handed over.

    Raises:
        UserError: an unknown suite, profile or setting, a folder that cannot be written, no SLURM
            here, or SLURM refuses the first array.
    """
    console = make_console()
    suite_run = open_suite(
        suite, runs, seeds=seeds, profile=size, only=only, more_heads=more_heads, light=True
    )
    settings = _settings(console, suite_run, profile, given)
    limits = SlurmLimits("", 1, 1)
    if settings.executor == "slurm":
        require_slurm()
        limits = slurm_limits()
    if dry_run:
        return _show(console, suite_run, settings, limits, retry_failed)
    check_writable(suite_run.folder / FOLDER)
    with _lock(console, suite_run.folder / FOLDER):
        overview = look(suite_run)
        if overview.trouble:
            raise UserError(f"what is in the queue cannot be known: {overview.trouble}")
        todo = _todo(overview, retry_failed)
        _tell(console, suite_run, overview, len(todo), retry_failed)
        if not todo:
            return 0
        cluster = limits.cluster or "local"
        _check_local(settings)
        submission = Submission.create(
            suite_run.folder, settings, cluster, plugin_files(), code_version()
        )
        if settings.executor == "local":
            return _start_here(console, submission, settings, todo)
        return _submit(console, submission, suite_run, settings, limits, todo)


def _settings(
    console: Console, suite_run: SuiteRun, profile: str | None, given: dict[str, Any]
) -> ClusterSettings:
    """What is given on the command line, then the profile, or else the last submission's."""
    if profile is not None:
        return make_settings(given, read_profile(profile))
    last = submissions(suite_run.folder)[-1:]
    if not last:
        return make_settings(given)
    settings = make_settings(given, last[0].content["settings"])
    console.print("settings not given are those of the last submission", highlight=False)
    return settings


def _todo(overview: Overview, retry_failed: bool) -> list[RunFolder]:
    wanted = (*OPEN, Place.FAILED) if retry_failed else OPEN
    return [cell.folder for cell in overview.cells if cell.place in wanted]


def _tell(
    console: Console, suite_run: SuiteRun, overview: Overview, todo: int, retry_failed: bool
) -> None:
    places = Counter(cell.place for cell in overview.cells)
    told = ", ".join(f"{places[place]} {place}" for place in Place if places[place])
    console.print(
        f"{suite_run.suite.name}: {count(len(overview.cells), 'cell')}: {told}; {todo} to submit",
        highlight=False,
    )
    if places[Place.FAILED] and not retry_failed:
        console.print("  failed cells are submitted again with --retry-failed", highlight=False)
    for cell in overview.cells:
        if cell.place == Place.DAMAGED:
            console.print(f"[red]damaged[/]: {escape(cell.note)}", highlight=False)
            console.print(
                f"  to train this cell again, move or delete its folder {cell.folder.path}",
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


def _submit(
    console: Console,
    submission: Submission,
    suite_run: SuiteRun,
    settings: ClusterSettings,
    limits: SlurmLimits,
    todo: list[RunFolder],
) -> int:
    from marginbench.cluster_executor import slurm_executor, submit_array
    from marginbench.cluster_job import ClusterJob

    jobs = _batches(todo, settings.cells_per_job)
    room = max(0, limits.queue_size - queue_length())
    fitting = jobs[:room]
    if not fitting:
        shutil.rmtree(submission.path)
        raise UserError(
            f"the cluster's queue is full (MaxJobCount = {limits.queue_size}); submit again later"
        )
    arrays = plan_arrays(len(fitting), limits.array_size, settings.max_parallel)
    parts = iter(fitting)
    ids: list[str] = []
    handed = 0
    trouble = ""
    for number, (size, slot) in enumerate(arrays):
        part = list(itertools.islice(parts, size))
        array = submission.plan(number, part)
        executor = slurm_executor(
            submission.jobs_folder,
            suite_run.suite.name,
            settings,
            comment=array.comment,
            parallel=slot.parallel,
            after=None if slot.after is None else ids[slot.after],
        )
        try:
            got = submit_array(
                executor, [ClusterJob(str(submission.path), number, i) for i in range(size)]
            )
        except UserError as error:
            if number == 0:
                shutil.rmtree(submission.path)
                raise
            trouble = str(error)
            break
        submission.note_ids(array, got)
        ids.append(got[0].partition("_")[0])
        handed += sum(len(job) for job in part)
    console.print(
        f"submitted {count(handed, 'cell')} in {count(len(ids), 'job array')}: {', '.join(ids)}",
        highlight=False,
    )
    if handed < len(todo):
        reason = trouble or f"the cluster's queue is full (MaxJobCount = {limits.queue_size})"
        console.print(
            f"[yellow]{len(todo) - handed} not submitted[/]: {escape(reason)}; "
            "submit again when the queue has room",
            highlight=False,
        )
        return 1
    return 0


def _start_here(
    console: Console, submission: Submission, settings: ClusterSettings, todo: list[RunFolder]
) -> int:
    from marginbench.cluster_executor import local_gpus, start_local_jobs
    from marginbench.cluster_job import ClusterJob
    from marginbench.local_dispatch import default_workers

    processes = settings.max_parallel or local_gpus() * settings.gpus or default_workers("cpu")
    processes = min(processes, len(todo))
    # Each process works through its share, since nothing here queues jobs.
    jobs = [todo[i::processes] for i in range(processes)]
    array = submission.plan(0, jobs)
    work = [ClusterJob(str(submission.path), 0, i) for i in range(processes)]
    ids = start_local_jobs(submission.jobs_folder, settings, work)
    submission.note_ids(array, ids, [process_identity(int(name)) for name in ids])
    console.print(
        f"started {count(len(todo), 'cell')} in {count(len(ids), 'local job')}", highlight=False
    )
    return 0


def _check_local(settings: ClusterSettings) -> None:
    if settings.executor == "local" and settings.gpus:
        from marginbench.cluster_executor import local_gpus

        if not local_gpus():
            raise UserError("gpus = 1, and this machine has no NVIDIA GPU; allowed here: --gpus 0")


def _show(
    console: Console,
    suite_run: SuiteRun,
    settings: ClusterSettings,
    limits: SlurmLimits,
    retry_failed: bool,
) -> int:
    """What would be handed over, and the script of the first array; nothing is written."""
    overview = look(suite_run)
    todo = _todo(overview, retry_failed)
    _tell(console, suite_run, overview, len(todo), retry_failed)
    for folder in todo:
        console.print(f"  {folder.path.name}", highlight=False, soft_wrap=True)
    if not todo or settings.executor == "local":
        return 0
    from marginbench.cluster_executor import sbatch_script, slurm_executor

    jobs = _batches(todo, settings.cells_per_job)
    arrays = plan_arrays(len(jobs), limits.array_size, settings.max_parallel)
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


def _batches(todo: Sequence[RunFolder], size: int) -> list[list[RunFolder]]:
    return [list(todo[start : start + size]) for start in range(0, len(todo), size)]


@contextlib.contextmanager
def _lock(console: Console, folder: Path) -> Iterator[None]:
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
        yield
