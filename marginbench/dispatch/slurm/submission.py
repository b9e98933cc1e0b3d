"""What was submitted to a cluster: ``RUNS/SUITE/submissions/ID/``, written by submit, read by all.

``submission.json`` the settings, the cluster and the code's version; ``plugins/`` the plug-in
files as they were; ``array-000.json`` which cells each job holds, and the array's job id once
SLURM has given one; ``array-000.cells.jsonl`` the cells themselves, one line a job; ``cancelled/``
a file for each cell that is to be trained no more; ``jobs/`` submitit's own files, the jobs'
output among them.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from marginbench.dispatch.slurm.settings import ClusterSettings
from marginbench.errors import DamagedFile, UserError
from marginbench.experiments.cells import Cell, cell_from_json
from marginbench.files import read_regular, write_text_atomically
from marginbench.plugins.allowed_values import refusal
from marginbench.runs.code_version import digest
from marginbench.runs.environment import own_environment
from marginbench.runs.process_identity import this_machine
from marginbench.runs.run_files import read_json
from marginbench.runs.run_folder import RunFolder

FOLDER = "submissions"
COMMENT = "marginbench"

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Array:
    """A job array of a submission; an array of one is a plain job.

    Attributes:
        submission: whose it is.
        number: within the submission.
        jobs: the keys of the cells of each job.
        ids: the job ids, in the jobs' order; empty as long as none is known.
        owner: of local processes, the process that runs each job.
    """

    submission: Submission
    number: int
    jobs: list[list[str]]
    ids: list[str]
    owner: list[dict[str, Any]]

    @property
    def comment(self) -> str:
        """What is written on the array in SLURM, to find it again whatever happens."""
        return f"{COMMENT} {self.submission.path.name} {self.number}"

    @property
    def path(self) -> Path:
        return self.submission.path / f"array-{self.number:03d}.json"


class _ArrayFile(BaseModel):
    """What array-000.json must hold."""

    jobs: list[list[str]]
    ids: list[str]
    owner: list[dict[str, Any]]


_MOST_BYTES = 2**30


class SubmissionFile(BaseModel):
    """What submission.json must hold."""

    submitted: float
    # Its name; "local" of local processes.
    cluster: str
    machine: str = ""
    settings: ClusterSettings
    plugins: list[dict[str, str]]
    code: dict[str, Any]
    environment: dict[str, str] = {}


class Submission:
    """A submission's folder.

    Args:
        path: ``RUNS/SUITE/submissions/ID``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls,
        suite_folder: Path,
        settings: ClusterSettings,
        cluster: str,
        plugins: Sequence[Path],
        code: dict[str, Any],
    ) -> Submission:
        """A new submission: settings, plug-in files and the code's version are kept."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        path = suite_folder / FOLDER / f"{stamp}-{uuid.uuid4().hex[:6]}"
        for part in ("plugins", "cancelled", "jobs"):
            (path / part).mkdir(parents=True)
        kept = []
        for number, file in enumerate(plugins):
            copy = path / "plugins" / f"{number}" / file.name
            copy.parent.mkdir()
            shutil.copyfile(file, copy)
            kept.append({"file": str(file), "copy": str(copy.relative_to(path))})
        content = SubmissionFile(
            submitted=time.time(),
            cluster=cluster,
            machine=this_machine(),
            settings=settings,
            plugins=kept,
            code=code,
            environment=own_environment(),
        )
        write_text_atomically(path / "submission.json", content.model_dump_json(indent=1) + "\n")
        return cls(path)

    @property
    def suite_folder(self) -> Path:
        return self.path.parent.parent

    @property
    def jobs_folder(self) -> Path:
        """Where submitit keeps its files."""
        return self.path / "jobs"

    @cached_property
    def content(self) -> SubmissionFile:
        """submission.json.

        Raises:
            DamagedFile: it does not read.
        """
        return _read(self.path / "submission.json", SubmissionFile)

    @property
    def settings(self) -> ClusterSettings:
        return self.content.settings

    @property
    def environment(self) -> dict[str, str]:
        """The project's own variables: as they are here, or else as they were at submission.

        A cluster need not export the submitter's environment; what ``setup`` sets counts first.
        """
        return self.content.environment | own_environment()

    @property
    def plugin_files(self) -> list[Path]:
        """The plug-in files as they were at submission."""
        return [self.path / plugin["copy"] for plugin in self.content.plugins]

    def changed_plugins(self) -> list[str]:
        """The plug-in files that have changed since; what runs is the copy."""
        return [
            plugin["file"]
            for plugin in self.content.plugins
            if digest(Path(plugin["file"])) != digest(self.path / plugin["copy"])
        ]

    def plan(self, number: int, jobs: Sequence[Sequence[RunFolder]]) -> Array:
        """Write an array's cells, before it is submitted, so that none is forgotten."""
        lines = (json.dumps([run.cell.to_json() for run in job]) + "\n" for job in jobs)
        write_text_atomically(self._cells_file(number), "".join(lines))
        array = Array(self, number, [[run.key for run in job] for job in jobs], [], [])
        self._write(array)
        return array

    def note_ids(
        self, array: Array, ids: Sequence[str], owner: Sequence[dict[str, Any]] = ()
    ) -> None:
        """Write the job ids that an array has got."""
        self._write(replace(array, ids=list(ids), owner=list(owner)))

    def arrays(self) -> Iterator[Array]:
        """The arrays, in their order.

        Raises:
            DamagedFile: one does not read.
        """
        for path in sorted(self.path.glob("array-*.json")):
            file = _read(path, _ArrayFile)
            if not {len(file.ids), len(file.owner)} <= {0, len(file.jobs)}:
                raise DamagedFile(path, f"it has {len(file.jobs)} jobs, {len(file.ids)} ids")
            number = int(path.stem.removeprefix("array-"))
            yield Array(self, number, file.jobs, file.ids, file.owner)

    def cells_of_jobs(self, array: int, indices: Collection[int]) -> list[list[Cell]]:
        """The cells of some jobs of an array as they were submitted, in the jobs' order.

        Raises:
            DamagedFile: the file does not read.
        """
        path = self._cells_file(array)
        try:
            lines = read_regular(path, _MOST_BYTES).splitlines()
            lines = [line for number, line in enumerate(lines) if number in indices]
            found = [[cell_from_json(text) for text in json.loads(line)] for line in lines]
        except (OSError, ValueError, TypeError, UserError) as error:
            raise DamagedFile(path, f"it cannot be read ({error})") from None
        if len(found) < len(indices):
            raise DamagedFile(path, f"it has fewer lines than the job {max(indices)} needs")
        return found

    def cancel(self, keys: Iterable[str]) -> None:
        """Mark cells for the jobs to train no more; a running one writes its checkpoint."""
        for key in keys:
            (self.path / "cancelled" / key).touch()

    def is_cancelled(self, key: str) -> bool:
        """Whether a cell is to be trained no more by this submission."""
        return (self.path / "cancelled" / key).exists()

    def cancelled(self) -> set[str]:
        """All cells that are to be trained no more by this submission."""
        return {path.name for path in (self.path / "cancelled").glob("*")}

    def output(self, job: str) -> list[Path]:
        """The files with a job's output, and with its errors."""
        return [self.jobs_folder / f"{job}_0_log.{end}" for end in ("out", "err")]

    def _write(self, array: Array) -> None:
        content = {name: getattr(array, name) for name in _ArrayFile.model_fields}
        write_text_atomically(array.path, json.dumps(content) + "\n")

    def _cells_file(self, array: int) -> Path:
        return self.path / f"array-{array:03d}.cells.jsonl"


def _read(path: Path, model: type[Model]) -> Model:
    """A JSON file with the fields of a model."""
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        raise DamagedFile(path, refusal("it", model, error)) from None
