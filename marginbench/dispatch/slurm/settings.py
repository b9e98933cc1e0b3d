"""What a submission asks of a cluster, and where the answers come from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marginbench.errors import UserError
from marginbench.plugins.allowed_values import refusal
from marginbench.plugins.parameters import NonNegative, Positive, PositiveInteger

PROFILE_FILE = "marginbench.toml"
HOURS_OF_A_YEAR = 8784


class ClusterSettings(BaseModel):
    """What one job asks for and how jobs are cut; the fields of a profile.

    Attributes:
        executor: "slurm", or "local" for processes on this machine, without SLURM.
        partition, account, qos, constraint: as sbatch has them; the cluster's default if None.
        gpus: of a job; with several, all of them train each of its cells together. Where it is not
            given, ``submit`` takes 0 for local processes on a machine without a GPU.
        processes: of a job, which train each of its cells together: one a GPU, which is what None
            means; without GPUs any number.
        cpus: cores of each process of a job.
        mem: memory of a job in GB; the cluster's default if None.
        hours: time limit of a job, from a minute to a year. A cell that needs longer goes on in
            the requeued job.
        max_parallel: jobs of a submission that run at a time; None for as many as the cluster
            lets run. Of local processes, the number that are started.
        cells_per_job: cells that a job trains one after the other.
        tries: how often a cell that fails or is killed is tried.
        threads: CPU threads of a cell; runs repeat to the bit only with the same number.
        checkpoint_seconds: how often a running cell writes its checkpoint.
        grace: seconds before the time limit (and, where the cluster sends a warning, before
            preemption) at which a job writes its checkpoint and goes back into the queue.
        setup: shell lines run on the node before Python starts.
        sbatch: further options of sbatch by their long names, for what has no field here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    executor: Literal["slurm", "local"] = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: Annotated[int, Field(ge=0)] = 1
    processes: PositiveInteger | None = None
    cpus: PositiveInteger = 1
    mem: Positive | None = None
    hours: Annotated[float, Field(ge=1 / 60, le=HOURS_OF_A_YEAR)] = 4.0
    max_parallel: PositiveInteger | None = None
    cells_per_job: PositiveInteger = 1
    tries: PositiveInteger = 3
    threads: PositiveInteger = 1
    checkpoint_seconds: NonNegative = 60.0
    grace: PositiveInteger = 90
    setup: tuple[str, ...] = ()
    sbatch: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @property
    def world_size(self) -> int:
        """Processes that train a cell together, ≥ 1."""
        return self.processes or max(self.gpus, 1)

    @property
    def minutes(self) -> int:
        """The time limit as SLURM counts it, never less than asked for."""
        return max(1, -int(-self.hours * 60 // 1))


def make_settings(*layers: Mapping[str, Any]) -> ClusterSettings:
    """Settings from layers of given fields, the first of highest rank; None is not given.

    Raises:
        UserError: an unknown field or a value that is not allowed.
    """
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged |= {name: value for name, value in layer.items() if value is not None}
    try:
        settings = ClusterSettings.model_validate(merged)
    except ValidationError as error:
        raise UserError(refusal("cluster settings", ClusterSettings, error)) from None
    if settings.gpus and settings.world_size != settings.gpus:
        raise UserError(
            f"cluster settings: processes = {settings.processes} is not allowed with gpus = "
            f"{settings.gpus}; allowed: {settings.gpus}, one a GPU, or none given"
        )
    return settings


def profile_paths() -> list[Path]:
    """Where profiles are looked for, the first of highest rank."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return [Path(PROFILE_FILE), Path(config) / "marginbench" / PROFILE_FILE]


def read_profile(name: str) -> dict[str, Any]:
    """The fields of a profile: the table ``[profiles.NAME]`` of the first file that has it.

    Raises:
        UserError: there is no such profile, a file does not parse, or a field is not allowed; the
            message names the files and the profiles that there are.
    """
    there: list[str] = []
    for path in profile_paths():
        profiles = _read_profiles(path)
        if name in profiles:
            try:
                make_settings(profiles[name])
            except UserError as error:
                raise UserError(f"profile {name!r} in {path}: {error}") from None
            return profiles[name]
        there += [f"{other!r} in {path}" for other in profiles]
    raise UserError(
        f"unknown profile {name!r}; there are: {', '.join(there) or 'none'}; a profile is a table "
        f"[profiles.{name}] in {' or '.join(map(str, profile_paths()))}"
    )


def _read_profiles(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"profile file {path} cannot be read: {error}") from None
    profiles = content.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise UserError(f"profile file {path}: 'profiles' must be tables, [profiles.NAME]")
    return profiles
