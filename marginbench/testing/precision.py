"""Half-precision features, and autocast around the head, must not change what it computes."""

from __future__ import annotations

import copy

import torch

from marginbench.heads import Head
from marginbench.testing.check_in_modes import CheckFailure
from marginbench.testing.observation import relative_difference, same_randomness
from marginbench.testing.subject import Subject

TOLERANCE = 1e-6


def computes_in_float32(subject: Subject) -> str:
    """Loss and logits are those of the same features in float32, and come out in float32."""
    head = subject.build()
    features, labels = subject.batch()
    worst = 0.0
    for dtype in (torch.bfloat16, torch.float16):
        rounded = features.to(dtype)
        full = _outputs(subject, head, rounded.float(), labels, autocast=None)
        for autocast in (None, torch.bfloat16):
            given = rounded if autocast is None else rounded.float()
            half = _outputs(subject, head, given, labels, autocast=autocast)
            for what, one, other in zip(("loss", "test logits"), half, full, strict=True):
                way = f"{dtype} features" if autocast is None else f"autocast to {autocast}"
                way = way.replace("torch.", "")
                if one.dtype != torch.float32:
                    kind = str(one.dtype).removeprefix("torch.")
                    raise CheckFailure(f"with {way} the {what} comes out in {kind}, not float32")
                difference = relative_difference(one, other)
                if not difference <= TOLERANCE:
                    raise CheckFailure(
                        f"with {way} the {what} is off by {difference:.2g} of its size "
                        f"(allowed {TOLERANCE:g})"
                    )
                worst = max(worst, difference)
    return f"largest relative difference from float32: {worst:.1e}"


def _outputs(
    subject: Subject,
    head: Head,
    features: torch.Tensor,
    labels: torch.Tensor,
    autocast: torch.dtype | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    head = copy.deepcopy(head)
    kind = torch.device(subject.device).type
    mixed = torch.autocast(kind, dtype=autocast, enabled=autocast is not None)
    with torch.no_grad(), same_randomness(), mixed:
        return head(features, labels), head.logits(features)
