"""The checks by name, and the ways to run them: as a list of results, or in pytest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from marginbench.testing.contract import (
    classes_are_interchangeable,
    logits_are_free_of_labels,
    unknown_parameters_are_refused,
    without_margin_equals_the_declared_head,
)
from marginbench.testing.cost import cost_beside_softmax
from marginbench.testing.derivatives import gradients_match_finite_differences
from marginbench.testing.edges import finite_at_edges
from marginbench.testing.precision import computes_in_float32
from marginbench.testing.state import (
    parameters_reach_the_optimiser,
    state_survives_a_checkpoint,
)
from marginbench.testing.subject import CheckFailure, CheckResult, NotApplicable, Subject

CHECKS: dict[str, Callable[[Subject], str]] = {
    "gradients": gradients_match_finite_differences,
    "edges": finite_at_edges,
    "half precision": computes_in_float32,
    "class permutation": classes_are_interchangeable,
    "state round trip": state_survives_a_checkpoint,
    "optimiser": parameters_reach_the_optimiser,
    "unknown parameters": unknown_parameters_are_refused,
    "test logits": logits_are_free_of_labels,
    "without margin": without_margin_equals_the_declared_head,
    "cost": cost_beside_softmax,
}


@dataclass(frozen=True)
class HeadCheck:
    """One check of one head; calling it raises where the contract does not hold.

    Attributes:
        name: of the check.
        subject: the head, its parameters and the sizes.
    """

    name: str
    subject: Subject

    def __str__(self) -> str:
        return f"{self.subject.name}: {self.name}"

    def run(self) -> CheckResult:
        """The result; an exception of the head's own is a failure that quotes it."""
        try:
            return CheckResult(self.name, True, CHECKS[self.name](self.subject))
        except NotApplicable as reason:
            return CheckResult(self.name, True, str(reason), skipped=True)
        except CheckFailure as failure:
            return CheckResult(self.name, False, str(failure))
        except Exception as error:
            return CheckResult(self.name, False, f"raises {type(error).__name__}: {error}")

    def __call__(self) -> None:
        """Run as a test.

        Raises:
            CheckFailure: the contract does not hold.
        """
        result = self.run()
        if not result.passed:
            raise CheckFailure(f"{self}: {result.detail}")


def check_names() -> list[str]:
    """The names of all checks, in their order."""
    return list(CHECKS)


def head_checks(
    name: str,
    *,
    in_features: int = 8,
    num_classes: int = 6,
    device: str = "cpu",
    **parameters: Any,
) -> list[HeadCheck]:
    """The checks of a head, to be parametrised over in a test.

    Args:
        name: a registered head.
        in_features: D at which it is checked.
        num_classes: K at which it is checked, at least 2.
        device: where the checks run.
        parameters: the head's own.

    Raises:
        UserError: no such head, or parameters that it does not take.
    """
    subject = Subject(name, parameters, in_features, num_classes, device)
    subject.build()
    return [HeadCheck(check, subject) for check in CHECKS]


def check_head(
    name: str,
    *,
    in_features: int = 8,
    num_classes: int = 6,
    device: str = "cpu",
    **parameters: Any,
) -> list[CheckResult]:
    """Run all checks of a head; the arguments are those of :func:`head_checks`.

    Example:
        >>> [result.name for result in check_head("arcface", m=0.3) if not result.passed]
        []
    """
    checks = head_checks(
        name, in_features=in_features, num_classes=num_classes, device=device, **parameters
    )
    return [check.run() for check in checks]
