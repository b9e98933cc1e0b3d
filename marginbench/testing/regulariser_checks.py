"""The checks of a regulariser by name, and the ways to run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from marginbench.errors import UserError
from marginbench.testing.regulariser_contract import (
    finite_at_edges,
    gradients_match_finite_differences,
    layers_have_their_shares,
    scale_does_not_count,
    state_survives_a_checkpoint,
    unknown_parameters_are_refused,
    value_is_one_number,
)
from marginbench.testing.regulariser_subject import RegulariserSubject
from marginbench.testing.subject import CheckFailure, CheckResult, run_check

REGULARISER_CHECKS: dict[str, Callable[[RegulariserSubject], str]] = {
    "value": value_is_one_number,
    "gradients": gradients_match_finite_differences,
    "shares": layers_have_their_shares,
    "scale": scale_does_not_count,
    "edges": finite_at_edges,
    "state round trip": state_survives_a_checkpoint,
    "unknown parameters": unknown_parameters_are_refused,
}


@dataclass(frozen=True)
class RegulariserCheck:
    """One check of one regulariser; calling it raises where the contract does not hold.

    Attributes:
        name: of the check.
        subject: the regulariser and its parameters.
    """

    name: str
    subject: RegulariserSubject

    def __str__(self) -> str:
        return f"{self.subject.name}: {self.name}"

    def run(self) -> CheckResult:
        """The result: the first mode that fails, or else what the regulariser as given shows."""
        modes = self.subject.modes()
        results = []
        for mode in modes:
            results.append(run_check(self.name, REGULARISER_CHECKS[self.name], mode))
            if not results[-1].passed:
                where = f"with {mode.mode}: " if mode.mode else ""
                return CheckResult(self.name, False, where + results[-1].detail)
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


def regulariser_checks(
    name: str, *, device: str = "cpu", **parameters: Any
) -> list[RegulariserCheck]:
    """The checks of a regulariser, to be parametrised over in a test.

    Args:
        name: a registered regulariser.
        device: where the checks run.
        parameters: its own.

    Raises:
        UserError: no such regulariser, parameters that it does not take, or one that ends the
            program.
    """
    subject = RegulariserSubject(name, parameters, device)
    try:
        subject.build()
    except SystemExit as ending:
        raise UserError(
            f"regulariser {name!r} ends the program: SystemExit({ending.code!r})"
        ) from None
    return [RegulariserCheck(check, subject) for check in REGULARISER_CHECKS]


def check_regulariser(name: str, *, device: str = "cpu", **parameters: Any) -> list[CheckResult]:
    """Run all checks of a regulariser; the arguments are those of :func:`regulariser_checks`.

    Example:
        >>> [result.name for result in check_regulariser("mhe", power=1) if not result.passed]
        []
    """
    return [check.run() for check in regulariser_checks(name, device=device, **parameters)]
