"""The styles of lines."""

import pytest

from marginbench.reporting.drawing import BLACK, DASHES, HUES, label_styles


@pytest.mark.parametrize("number", [3, len(HUES), 14, len(HUES) * len(DASHES), 40])
def test_no_two_heads_look_alike(number):
    styles = label_styles(["softmax", *(f"head{i:02}" for i in range(number))])
    assert len(set(styles.values())) == number + 1
    assert styles["softmax"].colour == BLACK


def test_hues_come_again_with_other_dashes_before_they_grow_alike():
    """Thirteen hues around the circle: three of them teal."""
    styles = label_styles(f"head{i:02}" for i in range(13))
    assert {style.colour for style in styles.values()} == set(HUES)
    assert [styles[f"head{i:02}"].dash for i in (0, 6, 7, 12)] == ["-", "-", "--", "--"]
