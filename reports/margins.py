"""What each head asks for: ψ(θ), its slope, and the decision boundary of two classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from marginbench import Figure, SectionContent, Table, section
from marginbench.errors import UserError
from marginbench.reporting.curves import CURVE_COLUMNS, Axis, draw_curves, interactive_curves
from marginbench.reporting.drawing import (
    LabelStyle,
    label_styles,
    literal,
    new_figure,
    outside_legend,
)

if TYPE_CHECKING:
    from marginbench.heads import Head

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


@section("margins", title="What the losses ask for", order=70)
def margins(results: pd.DataFrame) -> SectionContent:
    """ψ(θ) in the form of the paper's Fig. 3, its slope, and the boundaries of the survey's table.

    Args:
        results: needs the columns ``head``, ``head_parameters`` and ``label``.
    """
    found = [_margin(*entry) for entry in _entries(results)]
    drawn = [margin for margin in found if margin.psi is not None]
    left_out = [margin for margin in found if margin.psi is None]
    if not found:
        return SectionContent()
    styles = label_styles(margin.label for margin in found)
    text, tables, figures = [], [], []
    if drawn:
        text.append(
            "The smaller ψ(θ), the more a loss asks of a sample at the angle θ to its class. "
            "Where the curve lies below cos θ there is a margin; where its slope is near zero a "
            "sample is hardly pulled, and where it is steep or jumps, training is hard. "
            "Annealing is left out (λ = 0). A margin that follows the norm is drawn for a typical "
            "one: AdaFace's for the mean norm, MagFace's in the middle between its two margins."
        )
        figures = [_psi_figure(drawn, styles), _slope_figure(drawn, styles)]
        figures.append(_boundary_figure(drawn, styles))
        tables.append(_boundary_table(drawn))
    if left_out:
        rows = [{"loss": m.label, "head": m.head, "not drawn because": m.reason} for m in left_out]
        caption = "Losses of the grid that have no ψ(θ), and so are not in the figures."
        tables.append(Table("margins-not-drawn", caption, pd.DataFrame(rows)))
    return SectionContent(text=text, tables=tables, figures=figures)


def _entries(results: pd.DataFrame) -> list[tuple[str, str, dict[str, Any]]]:
    """(label, head, parameters) of each loss once; a label of two meanings says the setting."""
    if results.empty or not {"head", "label"} <= set(results.columns):
        return []
    seen: dict[str, dict[str, tuple[str, dict[str, Any], str]]] = {}
    for row in results.to_dict("records"):
        head, label = row["head"], row["label"]
        if not isinstance(head, str) or not isinstance(label, str):
            continue
        parameters = row.get("head_parameters")
        parameters = dict(parameters) if isinstance(parameters, dict) else {}
        setting = str(row.get("setting", ""))
        # λ is left out of every curve, and so distinguishes no two of them.
        distinguishing = {k: v for k, v in parameters.items() if not k.startswith("lambda_")}
        variant = repr((head, sorted(distinguishing.items(), key=str)))
        seen.setdefault(label, {}).setdefault(variant, (head, parameters, setting))
    return [
        (f"{label} ({setting})" if len(variants) > 1 else label, head, parameters)
        for label, variants in seen.items()
        for head, parameters, setting in variants.values()
    ]


def _margin(label: str, name: str, parameters: dict[str, Any]) -> Margin:
    """The curves of one head, worked out by the head itself."""
    import torch  # here, since a list of sections must not wait for it

    from marginbench.heads import build_head, head_class

    sizes = [len(value) for value in parameters.values() if isinstance(value, list | tuple)]
    try:
        formula = head_class(name).boundary_formula
        head = build_head(name, 2, max([2, *sizes]), **parameters).double().eval()
    except UserError as error:
        return Margin(label, name, reason=str(error))
    psi = getattr(head, "psi", None)
    if psi is None:
        return Margin(label, name, reason=_why_none(head))
    theta = torch.linspace(END, torch.pi - END, POINTS, dtype=torch.float64, requires_grad=True)
    cosine = theta.cos()
    trained = getattr(head, "with_chosen_gradient", lambda _, margined: margined)
    value = trained(cosine, psi(cosine))
    (slope,) = torch.autograd.grad(value.sum(), theta)
    with torch.no_grad():
        own, other = torch.meshgrid(cosine[::EVERY], cosine[::EVERY], indexing="xy")
        of_pairs = getattr(head, "boundary", None)
        boundary = psi(own) - other if of_pairs is None else of_pairs(own, other)
    return Margin(label, name, formula, value.detach().numpy(), slope.numpy(), boundary.numpy())


def _why_none(head: Head) -> str:
    if head.needs_pairs:
        return "its margin is between samples, and not in the angle to the class"
    return "its target's score is no function ψ of the angle to the class"


def _psi_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
    caption = (
        "ψ(θ): the target's logit as training sees it, in the form of Fig. 3 of the L-Softmax "
        "paper. Losses with one and the same curve share a line."
    )
    y = Axis("target logit ψ(θ), in units of the scale")
    return _over_angle("margins-psi", caption, margins, styles, y, lambda margin: margin.psi)


def _slope_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
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


def _boundary_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
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


def _boundary_table(margins: list[Margin]) -> Table:
    rows = [
        {"loss": margin.label, "decision boundary of class 1": margin.formula or "not stated"}
        for margin in margins
    ]
    caption = (
        "Decision boundaries of class 1 in the case of two classes, θ₁ and θ₂ the angles to their "
        "weights, in the form of the survey's table."
    )
    return Table("margins-boundaries", caption, pd.DataFrame(rows))


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
