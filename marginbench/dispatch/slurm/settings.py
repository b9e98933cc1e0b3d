"""What a submission asks of a cluster, and where the answers come from."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from marginbench.dispatch.slurm.sbatch_options import Value, read_options, srun_problems
from marginbench.errors import UserError
from marginbench.plugins.allowed_values import refusal
from marginbench.plugins.parameters import NonNegative, Positive, PositiveInteger

PROFILE_FILE = "marginbench.toml"
HOURS_OF_A_YEAR = 8784
# What a field was called when a submission or a profile may have been written.
_OLD_NAMES = {"tries": "attempts"}


_GPU_TYPE = re.compile(r"[\w.+-]+:[1-9]\d*", re.ASCII)
# Read by sbatch, if they come before the script's first command.
_DIRECTIVES = ("#SBATCH", "#PBS", "#BSUB")


def _setting(default: Any, unit: str | None, description: str, *, repeated: bool = False) -> Any:
    extra: dict[str, Any] = {"unit": unit, "repeated": repeated}
    return Field(default, description=description, json_schema_extra=extra)


def _gpus(value: object) -> int | str:
    is_count = type(value) is int and value >= 0
    if not is_count and not (isinstance(value, str) and _GPU_TYPE.fullmatch(value)):
        raise ValueError('integer ≥ 0, or text TYPE:COUNT as "a100:1"')
    return value  # type: ignore[return-value]


def _words(value: object) -> object:
    try:
        return tuple(shlex.split(value)) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("words as a shell takes them, each quotation closed") from None


class ClusterSettings(BaseModel):
    """What one job asks for and how jobs are cut.

    Each field is a name in a profile, and but for ``sbatch`` an option of ``submit``: default, the
    value's sign in the help, the help (:mod:`marginbench.command_line.cluster_options`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    executor: Literal["slurm", "local"] = _setting(
        "slurm", None, "local: processes on this machine, without SLURM."
    )
    partition: str | None = _setting(None, "P", "Default: the cluster's.")
    account: str | None = _setting(None, "A", "Default: the cluster's.")
    qos: str | None = _setting(None, "Q", "Default: the cluster's.")
    constraint: str | None = _setting(None, "C", "Features that a node must have.")
    gpus: Annotated[int | str, PlainValidator(_gpus)] = _setting(
        1,
        "N",
        "GPUs of a job, or TYPE:N as the cluster names its types; several train each of its cells "
        "together. With --executor local 0, where this machine has none.",
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
        (),
        "LINE",
        "A shell line for the node before Python starts. May be repeated.",
        repeated=True,
    )
    python: Annotated[tuple[str, ...], BeforeValidator(_words)] = _setting(
        (),
        "COMMAND",
        'The command that starts Python on the node: "apptainer exec --nv IMAGE python", say. '
        "Default: the Python that runs `submit`.",
    )
    srun_args: tuple[str, ...] = _setting(
        (), "ARG", "An argument for srun: --mpi=none, say. May be repeated.", repeated=True
    )
    # What sbatch has and no field here; no option of submit.
    sbatch: dict[str, Value] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            _OLD_NAMES.get(name, name): tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }

    @property
    def gpu_count(self) -> int:
        """GPUs of a job, of whatever type, ≥ 0."""
        return int(str(self.gpus).rpartition(":")[2])

    @property
    def world_size(self) -> int:
        """Processes that train a cell together, ≥ 1."""
        return self.processes or max(self.gpu_count, 1)

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
    problems: list[str] = []
    if isinstance(merged.get("sbatch"), Mapping):
        merged["sbatch"], problems = read_options(merged["sbatch"])
    try:
        settings = ClusterSettings.model_validate(merged)
    except ValidationError as error:
        problems.insert(0, refusal("cluster settings", ClusterSettings, error))
    else:
        problems += _problems(settings)
    if problems:
        raise UserError("; ".join(problems))
    return settings


def _problems(settings: ClusterSettings) -> list[str]:
    """What is wrong with settings though each has an allowed type and range."""
    problems = srun_problems(settings.srun_args)
    names = ("partition", "account", "qos", "constraint", "python")
    for name in names:
        given = getattr(settings, name) or ""
        if not "".join(given).isprintable():
            allowed = "printable text in one line"
            problems.append(f"{name} = {given!r} is not allowed; allowed: {allowed}")
    for line in "\n".join(settings.setup).splitlines():
        if line.lstrip().startswith(_DIRECTIVES):
            allowed = "shell; options of sbatch are written in [profiles.NAME.sbatch]"
            problems.append(f"setup: {line!r} is not allowed; allowed: {allowed}")
    if settings.gpu_count and settings.world_size != settings.gpu_count:
        problems.append(
            f"cluster settings: processes = {settings.processes} is not allowed with gpus = "
            f"{settings.gpus}; allowed: {settings.gpu_count}, one a GPU, or none given"
        )
    return problems


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
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"profile file {path} cannot be read: {error}") from None
    profiles = content.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise UserError(f"profile file {path}: 'profiles' must be tables, [profiles.NAME]")
    return profiles
