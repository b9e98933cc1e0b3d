"""The one-shot table: errors and differences are those of the runs."""

from marginbench.reports.one_shot import one_shot

from tests.reports.frames import frame, row


def test_errors_and_differences_are_those_of_the_runs():
    task = {"runs": [0.5, 0.7], "ways": [20, 20], "accuracy": 0.6}
    rows = [
        row(head, None, seed, None, train_error=0.0, one_shot=task, one_shot_error=error)
        for head, errors in (("softmax", (0.4, 0.5)), ("arcface", (0.3, 0.3)))
        for seed, error in enumerate(errors)
    ]
    (table,) = one_shot(frame(rows)).tables
    found = table.frame.set_index("head")
    assert found.loc["softmax", "one-shot error %"].startswith("45.00 [")
    assert found.loc["arcface", "one-shot error %"] == "30.00"
    assert found.loc["arcface", "difference (points)"].startswith("-15.00 [")
    assert "20-way" in table.caption
    assert one_shot(frame([row()])).tables == []
