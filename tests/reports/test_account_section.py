"""The account of the cells: what is there, and how long it took."""

from marginbench.reports.account import account

from tests.reports.frames import frame, row


def test_the_time_is_said_to_be_that_since_the_last_resumption():
    """What a run took before it was killed is written nowhere."""
    (text,) = account(frame([row(seconds=50.0), row(seed=1, seconds=40.0)])).text
    assert "2 of 2 cells done" in text
    assert "1 min 30 s of wall time, counting a cell that was interrupted from where" in text
    assert "in all" not in text
