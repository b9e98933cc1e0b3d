"""The options of sbatch in ``[profiles.NAME.sbatch]``: which are allowed, in any spelling.

Each option belongs to one class. *Ours*: the dispatch writes or relies on it, so that it is
refused with the setting to use instead. *Merged*: ``comment``, which is written before our own, by
which jobs are found. *Passed on*: all others. Source: sbatch(1) of SLURM 20.11 to 25.05.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from marginbench.dispatch.slurm.commands import sbatch_help

COMMENT = "comment"
Value = str | int | float | bool


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TASKS = "processes"
SETTINGS = {
    **{name: name for name in ("account", "partition", "qos", "constraint")},
    "time": "hours",
    **dict.fromkeys(("mem", "mem-per-cpu", "mem-per-gpu"), "mem"),
    **dict.fromkeys(("cpus-per-task", "cpus-per-gpu"), "cpus"),
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"), "gpus"),
    "tres-per-task": "gpus",
    **dict.fromkeys(("nodes", "ntasks", "ntasks-per-node", "tasks-per-node"), _TASKS),
    **dict.fromkeys(("ntasks-per-core", "ntasks-per-gpu", "ntasks-per-socket"), _TASKS),
    "array": "max_parallel",
    "signal": "grace",
}
"""The setting of each option that a setting decides."""
_LEFT_OPEN = ("account", "partition", "qos", "constraint", "mem")
_LOGS = "a job's output is read by `marginbench logs`"
_CLUSTER = "call `submit` on a login node of that cluster"
_OUTPUT = "`submit` reads what sbatch prints"
_NO_JOB = "with it sbatch submits nothing"
RESERVED = {
    "job-name": "jobs are found by their name; allowed: comment",
    "dependency": "job arrays wait for one another by it",
    **dict.fromkeys(("output", "error", "open-mode"), _LOGS),
    "chdir": "jobs run in the folder that `submit` is called in",
    **dict.fromkeys(("clusters", "cluster", "cluster-constraint"), _CLUSTER),
    "wait": "`submit` returns at once; allowed: `status --watch`",
    **dict.fromkeys(("parsable", "quiet"), _OUTPUT),
    **dict.fromkeys(("test-only", "help", "usage", "version"), _NO_JOB),
    "wrap": "the script is written by `submit`; allowed: the settings setup and python",
}
"""Why each further option of ours is refused."""
VALUED = _names(
    """acctg-freq batch bb bbf begin container container-id core-spec cores-per-socket cpu-freq
    deadline delay-boot distribution exclude export export-file extra extra-node-info gid gpu-bind
    gpu-freq gres gres-flags hint input kill-on-invalid-dep licenses mail-type mail-user mcs-label
    mem-bind mincpus network nodefile nodelist power prefer priority profile reservation segment
    sockets-per-node switches thread-spec threads-per-core time-min tmp tres-bind uid
    wait-all-nodes wckey"""
)
"""Passed on with a value."""
SWITCHES = _names(
    """consolidate-segments contiguous hold ignore-pbs no-requeue overcommit oversubscribe reboot
    requeue spread-job spread-segments stepmgr use-min-nodes verbose"""
)
"""Passed on without one."""
EITHER = _names("exclusive get-user-env nice no-kill oom-kill-step propagate resv-ports")
"""Passed on with or without one."""
SHORT = dict(
    pair.split(":")
    for pair in _names("""a:array A:account b:begin B:extra-node-info c:cpus-per-task C:constraint
    d:dependency D:chdir e:error F:nodefile G:gpus h:help H:hold i:input J:job-name k:no-kill
    L:licenses m:distribution M:clusters n:ntasks N:nodes o:output O:overcommit p:partition q:qos
    Q:quiet s:oversubscribe S:core-spec t:time v:verbose V:version w:nodelist W:wait
    x:exclude""")
)
"""Long names by letter."""
_KNOWN = {COMMENT, *SETTINGS, *RESERVED, *VALUED, *SWITCHES, *EITHER}
_VARIABLE = "SBATCH_"
_VARIABLES = {
    "array-inx": "array",
    "burst-buffer": "bb",
    "cpu-freq-req": "cpu-freq",
    "debug": "verbose",
    "mem-per-node": "mem",
    "req-switch": "switches",
    "timelimit": "time",
    "wait4switch": "switches",
}
_GPUS = re.compile(r"(?:gres[:/])?gpu(?:[:=](.+))?")


def long_names(given: str) -> list[str]:
    """The long names that a spelling may mean: one, several for an abbreviation, or none.

    A spelling has hyphens or underscores, either case, leading dashes or not; it is a letter (whose
    case counts), the name of a variable of sbatch, or an abbreviation as getopt takes it.
    """
    bare = given.strip().lstrip("-_")
    if len(bare) == 1:
        return [SHORT[bare]] if bare in SHORT else []
    is_variable = bare.upper().startswith(_VARIABLE)
    name = (bare[len(_VARIABLE) :] if is_variable else bare).lower().replace("_", "-")
    name = _VARIABLES.get(name, name) if is_variable else name
    return [name] if name in _KNOWN else sorted(one for one in _KNOWN if one.startswith(name))


def read_options(given: Mapping[str, Any]) -> tuple[dict[str, Value], list[str]]:
    """The options of a profile by their long names, and everything that is wrong with them.

    Of ``no-requeue`` and ``requeue`` there is ``requeue``; lists become text with commas.
    """
    options: dict[str, Value] = {}
    problems = []
    for spelling, value in given.items():
        try:
            name = _name(spelling)
            if name == "no-requeue" and isinstance(value, bool):
                name, value = "requeue", not value
            if name in options:
                raise ValueError(f"{name!r} is given twice")
            options[name] = _value(name, value)
        except ValueError as error:
            problems.append(f"sbatch: {error}")
    return options, problems


def _name(spelling: str) -> str:
    names = long_names(spelling)
    if len(names) > 1:
        raise ValueError(f"{spelling!r} is not clear; it may be: {', '.join(names)}")
    name = names[0] if names else spelling.strip().lstrip("-").lower().replace("_", "-")
    shown = repr(spelling) if name == spelling else f"{spelling!r} ({name})"
    if name in SETTINGS:
        raise ValueError(f"{shown} is not allowed; allowed: the setting {SETTINGS[name]}")
    if name in RESERVED:
        raise ValueError(f"{shown} is not allowed: {RESERVED[name]}")
    # A newer sbatch may know more.
    if not names and not re.search(rf"--{re.escape(name)}(?![\w-])", sbatch_help()):
        allowed = _KNOWN.difference(SETTINGS, RESERVED)
        close = difflib.get_close_matches(name, allowed) or ["a long name of `sbatch --help`"]
        raise ValueError(f"{spelling!r} is no option of sbatch; allowed: {' or '.join(close)}")
    return name


def _value(name: str, value: Any) -> Value:
    """A value in the form that the script takes it; False: the option is left out."""
    if isinstance(value, (list, tuple)) and value:
        value = ",".join(str(_value(name, item)) for item in value)
    switches, valued = name not in VALUED and name != COMMENT, name not in SWITCHES
    is_text = isinstance(value, (str, int, float)) and str(value).isprintable()
    if not (switches if isinstance(value, bool) else valued and is_text):
        allowed = ["true or false"] * switches
        allowed += ["a number, printable text in one line, or a list of them"] * valued
        raise ValueError(f"{name} = {value!r} is not allowed; allowed: {' or '.join(allowed)}")
    if name == "gres":
        _refuse_gpus(str(value))
    return value


def _refuse_gpus(value: str) -> None:
    """GPUs have a setting; other generic resources are passed on."""
    parts = value.split(",")
    gpus = [found[1] or "1" for part in parts if (found := _GPUS.fullmatch(part.strip()))]
    if gpus:
        count = gpus[0] if gpus[0].isdecimal() or ":" in gpus[0] else f"{gpus[0]}:1"
        rest = ",".join(part for part in parts if not _GPUS.fullmatch(part.strip()))
        shown = count if count.isdecimal() else f'"{count}"'
        raise ValueError(
            f"gres = {value!r} is not allowed; allowed: the setting gpus = {shown}"
            + (f', and gres = "{rest}" here' if rest else "")
        )


def script_options(options: Mapping[str, Value]) -> dict[str, Value]:
    """The options as lines of the script: True for a name alone; what is False is left out."""
    switched = {**options, "no-requeue": not options.get("requeue", True)}
    return {name: value for name, value in switched.items() if value is not False}


def overriding_variables(settings: Mapping[str, Any]) -> list[str]:
    """The variables here that sbatch would prefer to what the script says.

    Those of an option that the settings leave open stay: a site may set its users' account so.
    """
    decided = {COMMENT, "requeue", "no-requeue", *RESERVED, *settings["sbatch"]}
    decided |= {
        name
        for name, setting in SETTINGS.items()
        if setting not in _LEFT_OPEN or settings[setting] is not None
    }
    names = [name for name in os.environ if name.startswith(_VARIABLE)]
    return [name for name in names if not decided.isdisjoint(long_names(name)[:1])]


# Of srun; a job is one task.
_OF_TASKS = {name for name, setting in SETTINGS.items() if setting in (_TASKS, "cpus")}
_OF_TASKS |= {"output", "error", "chdir", "clusters", "test-only"}


def srun_problems(arguments: Sequence[str]) -> list[str]:
    """What is wrong with further arguments of srun.

    Each is an option, or the value of the option before it: another word would be the program.
    """
    problems, before = [], "="
    for word in arguments:
        is_option = word.startswith("-")
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        names = set(long_names(name)) if is_option else set()
        if not word.isprintable() or (not is_option and (before[:1] != "-" or "=" in before)):
            allowed = "an option, or the word after one as its value"
            problems.append(f"srun_args: {word!r} is not allowed; allowed: {allowed}")
        elif (names and names <= _OF_TASKS) or name in ("--jobid", "--multi-prog", "--pty"):
            problems.append(f"srun_args: {word!r} is not allowed: a job is one task, with its logs")
        before = word
    return problems
