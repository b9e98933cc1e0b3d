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
from marginbench.reporting.drawing import LabelStyle, label_styles, literal

if TYPE_CHECKING:
    from marginbench.heads import Head

POINTS = 721
# At exactly 0 and π the slope in θ is one-sided, and automatic differentiation gives neither.
END = 1e-4
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
        own, other = torch.meshgrid(cosine, cosine, indexing="xy")
        of_pairs = getattr(head, "boundary", None)
        boundary = psi(own) - other if of_pairs is None else of_pairs(own, other)
    return Margin(label, name, formula, value.detach().numpy(), slope.numpy(), boundary.numpy())


def _why_none(head: Head) -> str:
    if head.needs_pairs:
        return "its margin is between samples, and not in the angle to the class"
    return "its target's score is no function ψ of the angle to the class"


def _psi_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
    figure, axes = _figure()
    _draw_curves(axes, margins, styles, lambda margin: margin.psi)
    _angle_axis(axes.xaxis, axes.set_xlim, "angle θ to the own class (degrees)")
    axes.set_ylabel("target logit ψ(θ), in units of the scale")
    _legend(figure, axes)
    caption = (
        "ψ(θ): the target's logit as training sees it, in the form of Fig. 3 of the L-Softmax "
        "paper. Losses with one and the same curve share a line."
    )
    return Figure("margins-psi", caption, figure)


def _slope_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
    figure, axes = _figure()
    _draw_curves(axes, margins, styles, lambda margin: margin.slope)
    _angle_axis(axes.xaxis, axes.set_xlim, "angle θ to the own class (degrees)")
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_ylabel("slope dψ/dθ (per radian)")
    _legend(figure, axes)
    caption = (
        "dψ/dθ as the backward pass gives it: a loss with a detached margin has that of cos θ. "
        "Where it is 0 a sample is not pulled towards its class."
    )
    return Figure("margins-slope", caption, figure)


def _boundary_figure(margins: list[Margin], styles: dict[str, LabelStyle]) -> Figure:
    # The axes are a square of about 5 inches; the legend takes what is beside it.
    figure, axes = _figure(width=5.9 + 0.08 * max(len(margin.label) for margin in margins))
    degrees = np.linspace(np.degrees(END), 180 - np.degrees(END), POINTS)
    for members in _alike(margins, lambda margin: margin.boundary > 0):  # type: ignore[operator]
        style = styles[members[0].label]
        axes.contour(
            degrees, degrees, members[0].boundary, levels=[0],
            colors=[style.colour], linestyles=[style.dash], linewidths=1.8,
        )  # fmt: skip
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
    return Figure("margins-boundaries", caption, figure)


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
    figure = Drawing(figsize=(width, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _draw_curves(
    axes: Axes,
    margins: list[Margin],
    styles: dict[str, LabelStyle],
    curve: Callable[[Margin], Any],
) -> None:
    degrees = np.linspace(np.degrees(END), 180 - np.degrees(END), POINTS)
    for members in _alike(margins, curve):
        style = styles[members[0].label]
        axes.plot(
            degrees, curve(members[0]),
            color=style.colour, linestyle=style.dash, linewidth=1.8, label=_joined(members),
        )  # fmt: skip


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
    lines = sum(label.count("\n") + 1 for label in labels)
    figure.legend(
        handles, labels, loc="outside right upper", frameon=False,
        fontsize="small" if lines <= 24 else "x-small", ncols=1 if lines <= 34 else 2,
    )  # fmt: skip
