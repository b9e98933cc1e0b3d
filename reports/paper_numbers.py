"""The paper's numbers, as printed, by the setting of the suite that they belong to.

Source of everything here: Liu, Wen, Yu, Yang, Large-Margin Softmax Loss for Convolutional Neural
Networks, ICML 2016. A suite claims a table by naming its setting as here; ", small size" added
to the name claims it too, with the caveat that a small size deserves.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Liu et al., ICML 2016"
SMALL_NOTE = ", small size"


@dataclass(frozen=True)
class PublishedRow:
    """A row of the paper's table that is another paper's result.

    Attributes:
        method: as printed.
        source: author and year, as printed.
        value: in percent; None where the table says N/A.
    """

    method: str
    source: str
    value: float | None


@dataclass(frozen=True)
class PublishedTable:
    """One column of error rates or accuracies.

    Attributes:
        name: what the paper calls it ("Table 2").
        what: of the numbers, in percent: "error", "accuracy" or "verification accuracy".
        others: results of other papers that stand beside it.
        own: the paper's own results by (head, m), m 1 for heads without one.
        digits: behind the point, as printed.
    """

    name: str
    what: str
    others: tuple[PublishedRow, ...]
    own: dict[tuple[str, int], float]
    digits: int = 2


def _own(hinge: float, *by_margin: float) -> dict[tuple[str, int], float]:
    softmax, *margins = by_margin
    l_softmax = {("l-softmax", m): value for m, value in enumerate(margins, start=2)}
    return {("hinge", 1): hinge, ("softmax", 1): softmax, **l_softmax}


_TABLE_3 = (
    ("DropConnect", "Wan et al., 2013", 9.41, 9.32),
    ("FitNet", "Romero et al., 2015", None, 8.39),
    ("NiN + LA units", "Lin et al., 2014", 10.47, 8.81),
    ("Maxout", "Goodfellow et al., 2013", 11.68, 9.38),
    ("DSN", "Lee et al., 2015", 9.69, 7.97),
    ("All-CNN", "Springenberg et al., 2015", 9.08, 7.25),
    ("R-CNN", "Liang & Hu, 2015", 8.69, 7.09),
    ("ResNet", "He et al., 2015a", None, 6.43),
    ("GenPool", "Lee et al., 2016", 7.62, 6.05),
)

TABLES = {
    "MNIST (Table 2)": PublishedTable(
        "Table 2",
        "error",
        (
            PublishedRow("CNN", "Jarrett et al., 2009", 0.53),
            PublishedRow("DropConnect", "Wan et al., 2013", 0.57),
            PublishedRow("FitNet", "Romero et al., 2015", 0.51),
            PublishedRow("NiN", "Lin et al., 2014", 0.47),
            PublishedRow("Maxout", "Goodfellow et al., 2013", 0.45),
            PublishedRow("DSN", "Lee et al., 2015", 0.39),
            PublishedRow("R-CNN", "Liang & Hu, 2015", 0.31),
            PublishedRow("GenPool", "Lee et al., 2016", 0.31),
        ),
        _own(0.47, 0.40, 0.32, 0.31, 0.31),
    ),
    "CIFAR10 (Table 3)": PublishedTable(
        "Table 3, CIFAR10",
        "error",
        tuple(PublishedRow(method, source, plain) for method, source, plain, _ in _TABLE_3),
        _own(9.91, 9.05, 7.73, 7.66, 7.58),
    ),
    "CIFAR10+ (Table 3)": PublishedTable(
        "Table 3, CIFAR10+",
        "error",
        tuple(PublishedRow(method, source, plus) for method, source, _, plus in _TABLE_3),
        _own(6.96, 6.50, 6.01, 5.94, 5.92),
    ),
    "CIFAR100 (Table 4)": PublishedTable(
        "Table 4",
        "error",
        (
            PublishedRow("FitNet", "Romero et al., 2015", 35.04),
            PublishedRow("NiN", "Lin et al., 2014", 35.68),
            PublishedRow("Maxout", "Goodfellow et al., 2013", 38.57),
            PublishedRow("DSN", "Lee et al., 2015", 34.57),
            PublishedRow("dasNet", "Stollenga et al., 2014", 33.78),
            PublishedRow("All-CNN", "Springenberg et al., 2015", 33.71),
            PublishedRow("R-CNN", "Liang & Hu, 2015", 31.75),
            PublishedRow("GenPool", "Lee et al., 2016", 32.37),
        ),
        _own(32.90, 32.74, 29.95, 29.87, 29.53),
    ),
    "LFW, outside data (Table 5)": PublishedTable(
        "Table 5",
        "verification accuracy",
        (
            PublishedRow("FaceNet (200M images, private)", "Schroff et al., 2015", 99.65),
            PublishedRow("Deep FR (2.6M images)", "Parkhi et al., 2015", 98.95),
            PublishedRow("DeepID2+ (300K images, private)", "Sun et al., 2015", 98.70),
            PublishedRow("WebFace", "Yi et al., 2014", 97.73),
            PublishedRow("WebFace", "Ding & Tao, 2015", 98.43),
        ),
        {
            ("softmax", 1): 96.53,
            ("contrastive", 1): 97.31,
            ("l-softmax", 2): 97.81,
            ("l-softmax", 3): 98.27,
            ("l-softmax", 4): 98.71,
        },
    ),
    "MNIST, 2-D features (Fig. 2)": PublishedTable(
        "Fig. 2",
        "accuracy",
        (),
        {
            ("softmax", 1): 98.45,
            ("l-softmax", 2): 98.96,
            ("l-softmax", 3): 99.22,
            ("l-softmax", 4): 99.34,
        },
    ),
}


def published_table(setting: str) -> PublishedTable | None:
    """The table that a setting claims, or None."""
    return TABLES.get(setting.removesuffix(SMALL_NOTE))


def is_small(setting: str) -> bool:
    """Whether the setting is a small size, whose numbers are not the paper's experiment."""
    return setting.endswith(SMALL_NOTE)
