"""The checks of a regulariser by name, and the ways to run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marginbench.regularisers import regulariser_class
from marginbench.testing.check_in_modes import CheckInModes, CheckResult, building
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

REGULARISER_CHECKS: dict[str, Callable[[RegulariserSubject], str]] = {
    "value": value_is_one_number,
    "gradients": gradients_match_finite_differences,
    "shares": layers_have_their_shares,
    "scale": scale_does_not_count,
    "edges": finite_at_edges,
    "state round trip": state_survives_a_checkpoint,
    "unknown parameters": unknown_parameters_are_refused,
}


class RegulariserCheck(CheckInModes[RegulariserSubject]):
    """One check of one regulariser; see :class:`CheckInModes`."""

    def modes(self) -> list[RegulariserSubject]:
        """All modes of the regulariser."""
        return self.subject.modes()

    def show(self, mode: RegulariserSubject) -> str:
        """What is found in a mode."""
        return REGULARISER_CHECKS[self.name](mode)


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
    with building(f"regulariser {name!r}", regulariser_class(name)):
        subject.build()
    return [RegulariserCheck(check, subject) for check in REGULARISER_CHECKS]


def check_regulariser(name: str, *, device: str = "cpu", **parameters: Any) -> list[CheckResult]:
    """Run all checks of a regulariser; the arguments are those of :func:`regulariser_checks`.

    Example:
        >>> [result.name for result in check_regulariser("mhe", power=1) if not result.passed]
        []
    """
    return [check.run() for check in regulariser_checks(name, device=device, **parameters)]
