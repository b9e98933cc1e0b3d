"""What a submission asks of a cluster, and where the answers come from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from marginbench.errors import UserError
from marginbench.plugins.allowed_values import refusal
from marginbench.plugins.parameters import NonNegative, Positive, PositiveInteger

PROFILE_FILE = "marginbench.toml"
HOURS_OF_A_YEAR = 8784
# What a field was called when a submission or a profile may have been written.
_OLD_NAMES = {"tries": "attempts"}


def _setting(default: Any, unit: str | None, description: str) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit})


class ClusterSettings(BaseModel):
    """What one job asks for and how jobs are cut.

    Each field is a name in a profile, and but for ``sbatch`` an option of ``submit``: default, the
    value's sign in the help, the help (:mod:`marginbench.command_line.cluster_options`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    executor: Literal["slurm", "local"] = _setting(
        "slurm", None, "local: processes on this machine, without SLURM."
    )
    partition: str | None = _setting(None, "P", "Default: the cluster's.")
    account: str | None = _setting(None, "A", "Default: the cluster's.")
    qos: str | None = _setting(None, "Q", "Default: the cluster's.")
    constraint: str | None = _setting(None, "C", "Features that a node must have.")
    gpus: Annotated[int, Field(ge=0)] = _setting(
        1,
        "N",
        "GPUs of a job; several train each of its cells together. With --executor local 0, "
        "where this machine has none.",
    )
    processes: PositiveInteger | None = _setting(
        None, "N", "Processes of a job that train a cell together. Default: one per GPU."
    )
    cpus: PositiveInteger = _setting(1, "N", "CPU cores of a process.")
    mem: Positive | None = _setting(None, "GB", "Memory of a job. Default: the cluster's.")
    hours: Annotated[float, Field(ge=1 / 60, le=HOURS_OF_A_YEAR)] = _setting(
        4.0, "H", "Time limit of a job; a cell that needs longer goes on in the requeued job."
    )
    max_parallel: PositiveInteger | None = _setting(
        None, "N", "Jobs, or local processes, that run at a time. Default: no limit."
    )
    cells_per_job: PositiveInteger = _setting(1, "N", "Cells that a job trains one by one.")
    attempts: PositiveInteger = _setting(3, "N", "Attempts at a cell that fails or is killed.")
    threads: PositiveInteger = _setting(
        1, "N", "CPU threads of a cell. Runs repeat to the bit only with the same number."
    )
    checkpoint_seconds: NonNegative = _setting(
        60.0, "S", "How often a running cell writes its checkpoint."
    )
    grace: PositiveInteger = _setting(
        90,
        "S",
        "Seconds before the time limit, and before preemption where the cluster warns, at "
        "which a job writes its checkpoint.",
    )
    setup: tuple[str, ...] = _setting(
        (), "LINE", "A shell line for the node before Python starts. May be repeated."
    )
    # What sbatch has and no field here; no option of submit.
    sbatch: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {_OLD_NAMES.get(name, name): value for name, value in given.items()}

    @property
    def world_size(self) -> int:
        """Processes that train a cell together, ≥ 1."""
        return self.processes or max(self.gpus, 1)

    @property
    def minutes(self) -> int:
        """The time limit as SLURM counts it, never less than asked for."""
        return max(1, -int(-self.hours * 60 // 1))


def make_settings(*layers: Mapping[str, Any]) -> ClusterSettings:
    """Settings from layers of given fields, the first of highest rank.

    Of a field that is not given the value is None, or () as click has it.

    Raises:
        UserError: an unknown field or a value that is not allowed.
    """
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged |= {name: value for name, value in layer.items() if value not in (None, ())}
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
