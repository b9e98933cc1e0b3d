"""The figures of the section "margins": ψ(θ), its slope, and decision boundaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from marginbench import Figure
from marginbench.reporting.curves import CURVE_COLUMNS, Axis, draw_curves, interactive_curves
from marginbench.reporting.drawing import LabelStyle, literal, new_figure, outside_legend

POINTS = 721
# At exactly 0 and π the slope in θ is one-sided, and automatic differentiation gives neither.
END = 1e-4
EVERY = 4
"""Of those points one in so many is drawn: each degree."""
ANGLE = Axis("angle θ to the own class (degrees)", limits=(0, 180))
NOTES = {
    "sphereface2": " SphereFace2 decides each class by itself; its line is that of the bias with "
    "which training of two classes starts.",
    "curricularface": " CurricularFace's line is that of t = 0, with which training starts.",
}


class Margin(NamedTuple):
    """A head of the grid: its curves over θ, or why it has none."""

    label: str
    head: str
    formula: str = ""
    psi: np.ndarray | None = None
    slope: np.ndarray | None = None
    boundary: np.ndarray | None = None
    reason: str = ""


def psi_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
    """ψ(θ) of each head that has one."""
    caption = (
        "ψ(θ): the target's logit as training sees it, in the form of Fig. 3 of the L-Softmax "
        "paper. Losses with one and the same curve share a line."
    )
    y = Axis("target logit ψ(θ), in units of the scale")
    return _over_angle("margins-psi", caption, margins, styles, y, lambda margin: margin.psi)


def slope_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
    """dψ/dθ of each."""
    caption = (
        "dψ/dθ as the backward pass gives it: a loss with a detached margin has that of cos θ. "
        "Where it is 0 a sample is not pulled towards its class."
    )
    y = Axis("slope dψ/dθ (per radian)")
    return _over_angle("margins-slope", caption, margins, styles, y, lambda margin: margin.slope)


def _over_angle(
    name: str,
    caption: str,
    margins: list[Margin],
    styles: dict[str, LabelStyle],
    y: Axis,
    curve: Callable[[Margin], Any],
) -> Figure:
    """A line for each distinct curve over θ."""
    degrees = np.linspace(np.degrees(END), 180 - np.degrees(END), POINTS)[::EVERY]
    groups = {", ".join(m.label for m in group): group for group in _alike(margins, curve)}
    points = [
        {"panel": y.title, "label": label, "x": x, "y": value, "seeds": 1}
        for label, group in groups.items()
        for x, value in zip(degrees, curve(group[0])[::EVERY], strict=True)
    ]
    curves = pd.DataFrame(points, columns=CURVE_COLUMNS).astype({"low": float, "high": float})
    own = {label: styles[group[0].label] for label, group in groups.items()}
    figure, axes = _figure()
    draw_curves(axes, curves, own)
    _angle_axis(axes.xaxis, axes.set_xlim, ANGLE.title)
    axes.set_ylabel(y.title)
    _legend(figure, axes)
    interactive = interactive_curves(curves, own, {y.title: (ANGLE, y)})
    return Figure(name, caption, figure, curves, interactive)


def boundary_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
    """The line between two classes that each head draws."""
    # The axes are a square of about 5 inches; the legend takes what is beside it.
    figure, axes = _figure(width=6.5 + 0.08 * max(len(margin.label) for margin in margins))
    degrees = np.linspace(np.degrees(END), 180 - np.degrees(END), POINTS)[::EVERY]
    data: list[dict[str, Any]] = []
    for members in _alike(margins, lambda margin: margin.boundary > 0):  # type: ignore[operator]
        style = styles[members[0].label]
        lines = axes.contour(
            degrees, degrees, members[0].boundary, levels=[0],
            colors=[style.colour], linestyles=[style.dash], linewidths=1.2,
        )  # fmt: skip
        data += [
            {"label": _joined(members), "line": number, "θ₁": first, "θ₂": second}
            for number, line in enumerate(lines.allsegs[0])
            for first, second in line
        ]
        axes.plot([], [], color=style.colour, linestyle=style.dash, label=_joined(members))
    _angle_axis(axes.xaxis, axes.set_xlim, "angle θ₁ to class 1 (degrees)")
    _angle_axis(axes.yaxis, axes.set_ylim, "angle θ₂ to class 2 (degrees)")
    axes.set_aspect("equal")
    _legend(figure, axes)
    caption = (
        "The decision boundary of class 1 against class 2, for class weights of equal length and "
        "no bias: above and to the left of its line a loss takes a sample of class 1 for well "
        "classified. The diagonal is softmax; the farther from it, the wider the margin."
    )
    caption += "".join(NOTES[name] for name in NOTES if any(m.head == name for m in margins))
    return Figure("margins-boundaries", caption, figure, pd.DataFrame(data))


def _figure(width: float = 8.5) -> tuple[Drawing, Axes]:
    figure, (axes,) = new_figure(1, 1, width=width, height=5)
    return figure, axes


def _alike(margins: list[Margin], curve: Callable[[Margin], Any]) -> list[list[Margin]]:
    """The margins in groups of one and the same curve, in order."""
    groups: list[list[Margin]] = []
    for margin in margins:
        for group in groups:
            if np.allclose(curve(group[0]), curve(margin), atol=1e-6):
                group.append(margin)
                break
        else:
            groups.append([margin])
    return groups


def _joined(members: list[Margin]) -> str:
    return literal(",\n".join(margin.label for margin in members))


def _angle_axis(axis: Any, set_limits: Callable[..., Any], label: str) -> None:
    set_limits(0, 180)
    axis.set_ticks(range(0, 181, 30))
    axis.set_label_text(label)


def _legend(figure: Drawing, axes: Axes) -> None:
    """A legend beside the axes, so that it covers no curve."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [label.replace(", ", ",\n") for label in labels]
    lines = sum(label.count("\n") + 1 for label in labels)
    outside_legend(figure, handles, labels, ncols=1 if lines <= 34 else 2)
