"""The styles of lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marginbench.reporting.drawing import (
    BLACK,
    DASHES,
    HUES,
    LONGEST_CLASS,
    class_labels,
    label_styles,
    new_figure,
)


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


@settings(max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=6, unique=True))
def test_names_of_classes_are_short_different_and_can_be_drawn(names):
    shown = class_labels(names)
    assert len(set(shown)) == len(names)
    # A literal dollar takes two characters, and a number is put behind what is there twice.
    assert all(len(text.replace("\\$", "$")) <= LONGEST_CLASS + 8 for text in shown)
    for name, text in zip(names, shown, strict=True):
        if name.isascii() and name.isalnum() and len(name) <= LONGEST_CLASS:
            assert text.startswith(name)


def test_long_and_foreign_names_of_classes(recwarn):
    long = "North American river otter, " * 4
    names = [f"{long}adult", f"{long}young", "熊猫", "ねこ", "Äpfel"]
    shown = class_labels(names)
    assert shown[0].startswith("North American ")
    assert shown[0].endswith("adult")
    assert shown[4] == "Äpfel"
    figure, (axis,) = new_figure(1, 1, width=4, height=3)
    axis.set_xticks(range(5), shown)
    axis.set_title(", ".join(shown))
    figure.canvas.draw()
    assert not [one for one in recwarn if "missing from" in str(one.message)]
