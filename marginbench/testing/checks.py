"""The checks by name, and the ways to run them: as a list of results, or in pytest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marginbench.heads import head_class
from marginbench.testing.attributes import plain_attributes_stay
from marginbench.testing.batches import (
    evaluation_leaves_no_trace,
    inputs_stay_as_they_are,
    samples_count_alike,
)
from marginbench.testing.check_in_modes import CheckInModes, CheckResult, building
from marginbench.testing.contract import (
    classes_are_interchangeable,
    logits_are_free_of_labels,
    unknown_parameters_are_refused,
)
from marginbench.testing.cost import cost_beside_softmax
from marginbench.testing.derivatives import gradients_match_finite_differences
from marginbench.testing.edges import finite_at_edges
from marginbench.testing.effects import every_parameter_has_an_effect
from marginbench.testing.learning import (
    learns_separable_classes,
    logits_come_from_what_is_trained,
)
from marginbench.testing.margins import (
    margin_is_off_in_test_logits,
    margin_is_to_no_samples_advantage,
)
from marginbench.testing.precision import computes_in_float32
from marginbench.testing.state import (
    parameters_reach_the_optimiser,
    state_survives_a_checkpoint,
)
from marginbench.testing.subject import SIZES, Subject
from marginbench.testing.values import (
    chunks_change_nothing,
    cosines_are_of_vectors,
    logits_are_those_of_the_loss,
)
from marginbench.testing.without_margin import without_margin_equals_the_declared_head

INPUTS, GRADIENTS = "inputs", "gradients"
CHECKS: dict[str, Callable[[Subject], str]] = {
    INPUTS: inputs_stay_as_they_are,
    GRADIENTS: gradients_match_finite_differences,
    "edges": finite_at_edges,
    "half precision": computes_in_float32,
    "samples": samples_count_alike,
    "class permutation": classes_are_interchangeable,
    "evaluation": evaluation_leaves_no_trace,
    "state round trip": state_survives_a_checkpoint,
    "optimiser": parameters_reach_the_optimiser,
    "unknown parameters": unknown_parameters_are_refused,
    "test logits": logits_are_free_of_labels,
    "trained weights": logits_come_from_what_is_trained,
    "logit values": logits_are_those_of_the_loss,
    "chunks": chunks_change_nothing,
    "cosines": cosines_are_of_vectors,
    "plain attributes": plain_attributes_stay,
    "effects": every_parameter_has_an_effect,
    "margin off": margin_is_off_in_test_logits,
    "without margin": without_margin_equals_the_declared_head,
    "margin sign": margin_is_to_no_samples_advantage,
    "learning": learns_separable_classes,
    "cost": cost_beside_softmax,
}
ONCE = ("unknown parameters", "effects", "cost")
"""The checks that one mode of a head answers for all; the others run in every mode."""
SIZES_OF_CHECK = {
    **dict.fromkeys(("edges", "half precision", "plain attributes", "learning"), 0),
    **dict.fromkeys(("state round trip", "margin sign", "without margin", "chunks"), 1),
    **dict.fromkeys((GRADIENTS, "samples", "logit values", "margin off"), 2),
}
"""The number of other K and D that a costly check runs at; the others run at all of them."""


class HeadCheck(CheckInModes[Subject]):
    """One check of one head; see :class:`CheckInModes`."""

    def modes(self) -> list[Subject]:
        """All modes of the head, or the first where it answers for all."""
        if self.name in ONCE:
            return [self.subject]
        sizes = self.subject.at_sizes(SIZES_OF_CHECK.get(self.name, len(SIZES)))
        return [*self.subject.modes(every_gradient=self.name == GRADIENTS), *sizes]

    def show(self, mode: Subject) -> str:
        """What is found in a mode."""
        return CHECKS[self.name](mode)


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
        UserError: no such head, parameters that it does not take, or a head that ends the program.
    """
    subject = Subject(name, parameters, in_features, num_classes, device)
    with building(f"head {name!r}", head_class(name)):
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

    Where a head changes its inputs, the other checks show nothing and are left out.

    Example:
        >>> [result.name for result in check_head("arcface", m=0.3) if not result.passed]
        []
    """
    first, *others = head_checks(
        name, in_features=in_features, num_classes=num_classes, device=device, **parameters
    )
    result = first.run()
    if not result.passed:
        reason = f"not checked, since {INPUTS!r} fails"
        return [result, *(CheckResult(o.name, True, reason, skipped=True) for o in others)]
    return [result, *(check.run() for check in others)]
