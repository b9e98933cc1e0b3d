"""The names of a table's rows."""

from marginbench.experiments.grids import component, grid
from marginbench.runs.conditions import row_labels
from tests.conftest import tiny_cell


def test_labels_tell_rows_of_one_head_apart_and_no_more():
    cells = grid(
        data="digits",
        backbone="small",
        head=[
            "softmax",
            component("hinge", norm="L1"),
            component("hinge", norm="L2"),
            component("arcface", m=0.3, s=10.0),
            component("am-softmax", m=0.3, s=10.0),
            component("am-softmax", m=0.3, s=20.0),
        ],
        schedule=tiny_cell().schedule,
    )
    assert row_labels(cells) == [
        "softmax",
        "hinge norm=L1",
        "hinge norm=L2",
        "arcface m=0.3",
        "am-softmax m=0.3 s=10",
        "am-softmax m=0.3 s=20",
    ]
