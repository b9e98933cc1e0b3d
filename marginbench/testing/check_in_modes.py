"""What a check returns or raises, and one that is run on every mode of its subject."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from marginbench.errors import UserError
from marginbench.plugins.loading import as_user_error, one_line


class CheckFailure(AssertionError):
    """A part of the contract that does not hold; the message has the numbers."""


class NotApplicable(Exception):
    """The check has nothing to say of this head; the message says why."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: of the check.
        passed: whether the contract holds; True too where the check does not apply.
        detail: the numbers behind it, in one line.
        skipped: whether the check does not apply to this head.
    """

    name: str
    passed: bool
    detail: str
    skipped: bool = False


@contextmanager
def building(owner: str, kind: type) -> Iterator[None]:
    """A block that builds what is checked: whatever its class raises is one line for its author.

    Raises:
        UserError: as the class raised it, or with the error, its line and the class's file.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        module = sys.modules.get(kind.__module__)
        file = Path(getattr(module, "__file__", None) or kind.__module__)
        with as_user_error(f"{owner} cannot be built: {file.name}", file):
            raise error


class Checkable(Protocol):
    """What is checked: its name, and in words where this mode departs, and its sizes."""

    @property
    def name(self) -> str: ...

    @property
    def mode(self) -> str: ...

    @property
    def sizes(self) -> str: ...


Checked = TypeVar("Checked", bound=Checkable)


def run_check(name: str, check: Callable[[Checked], str], subject: Checked) -> CheckResult:
    """What a check finds; an exception of the subject's own is a failure that quotes it."""
    try:
        return CheckResult(name, True, check(subject))
    except NotApplicable as reason:
        return CheckResult(name, True, str(reason), skipped=True)
    except CheckFailure as failure:
        return CheckResult(name, False, str(failure))
    except SystemExit as ending:
        # No proof, whatever status it ends with.
        return CheckResult(name, False, f"ends the program: SystemExit({ending.code!r})")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return CheckResult(name, False, f"raises {one_line(error)}")


@dataclass(frozen=True)
class CheckInModes(ABC, Generic[Checked]):
    """One check of one subject; calling it raises where the contract does not hold.

    Attributes:
        name: of the check.
        subject: what is checked, with its parameters.
    """

    name: str
    subject: Checked

    @abstractmethod
    def modes(self) -> Sequence[Checked]:
        """The modes that it runs in, the subject as given first."""

    @abstractmethod
    def show(self, mode: Checked) -> str:
        """What is found in a mode.

        Raises:
            CheckFailure: the contract does not hold.
        """

    def __str__(self) -> str:
        return f"{self.subject.name}: {self.name}"

    def run(self) -> CheckResult:
        """The result: the first mode that fails, or else what the subject as given shows."""
        modes = self.modes()
        results = []
        for mode in modes:
            results.append(run_check(self.name, self.show, mode))
            if not results[-1].passed:
                where = f"with {mode.mode}: " if mode.mode else ""
                detail = f"{where}{results[-1].detail}{mode.sizes}"
                return CheckResult(self.name, False, detail)
        more = f"; in {len(modes)} modes" if len(modes) > 1 and not results[0].skipped else ""
        return CheckResult(self.name, True, results[0].detail + more, results[0].skipped)

    def __call__(self) -> None:
        """Run as a test.

        Raises:
            CheckFailure: the contract does not hold.
        """
        result = self.run()
        if not result.passed:
            raise CheckFailure(f"{self}: {result.detail}")
