"""What each head asks for: ψ(θ), its slope, and the decision boundary of two classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from marginbench import SectionContent, Table, section
from marginbench.errors import UserError
from marginbench.reporting.drawing import label_styles
from marginbench.text import distinct

from .margin_figures import (
    END,
    EVERY,
    POINTS,
    Margin,
    boundary_figure,
    psi_figure,
    slope_figure,
)

if TYPE_CHECKING:
    from marginbench.heads import Head


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
        figures = [psi_figure(drawn, styles), slope_figure(drawn, styles)]
        figures.append(boundary_figure(drawn, styles))
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
    found = [
        (f"{label} ({setting})" if len(variants) > 1 else label, head, parameters)
        for label, variants in seen.items()
        for head, parameters, setting in variants.values()
    ]
    labels = distinct(label for label, *_ in found)
    return [
        (label, head, parameters)
        for label, (_, head, parameters) in zip(labels, found, strict=True)
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
