"""Ranges that several heads search their parameters in, by the number of classes K."""

from __future__ import annotations

import math

from marginbench.plugins.search_ranges import Choice, LogUniform, Range, Uniform


def least_scale(num_classes: int, probability: float) -> float:
    """The least s that lets a softmax over s·cosines give the right class that probability.

    s ≥ (K − 1)/K · log((K − 1)P/(1 − P)) (Wang et al., CosFace, CVPR 2018, Eq. 6).

    Args:
        num_classes: K; of 1, the bound of 2.
        probability: P, between 0 and 1.
    """
    others = max(num_classes, 2) - 1
    return others / (others + 1) * math.log(others * probability / (1 - probability))


def scale_range(num_classes: int) -> Range:
    """Of s: from what P = 0.9 needs to four times what P = 0.999 needs."""
    return LogUniform(
        _short(least_scale(num_classes, 0.9)), _short(4 * least_scale(num_classes, 0.999))
    )


def cosine_margin_range(num_classes: int) -> Range:
    """Of a margin on the cosine, up to half of what K classes leave room for.

    That is K/(K − 1), where they have the dimensions to stand apart as far as can be (Wang et al.,
    CosFace, CVPR 2018, Section 3.4).
    """
    others = max(num_classes, 2) - 1
    return Uniform(0.02, _short(0.5 * (others + 1) / others))


def angular_margin_range(num_classes: int) -> Range:
    """Of a margin in radians, up to half of the angle between classes as far apart as can be.

    Its cosine is −1/(K − 1).
    """
    others = max(num_classes, 2) - 1
    return Uniform(0.02, _short(0.5 * math.acos(-1 / others)))


def multiplicative_space() -> dict[str, Range]:
    """Of the heads with an annealed whole margin: m, and λ's speed and floor where λ is on."""
    return {
        "m": Choice((2, 3, 4)),
        "lambda_gamma": LogUniform(0.25, 2.0, relative=True, needs="lambda_base"),
        "lambda_min": Choice((0.0, 0.5, 5.0), needs="lambda_base"),
    }


def _short(value: float) -> float:
    return float(f"{value:.3g}")
