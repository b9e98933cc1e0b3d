"""The kit that proves a head: the contract as checks that run on anybody's loss.

In a test of your own package::

    import pytest
    from marginbench.testing import head_checks

    @pytest.mark.parametrize("check", head_checks("my-head", m=0.3), ids=str)
    def test_my_head(check):
        check()
"""

from marginbench.testing.checks import HeadCheck, check_head, check_names, head_checks
from marginbench.testing.reports import HeadReport, print_checks, report_head
from marginbench.testing.subject import CheckFailure, CheckResult

__all__ = [
    "CheckFailure",
    "CheckResult",
    "HeadCheck",
    "HeadReport",
    "check_head",
    "check_names",
    "head_checks",
    "print_checks",
    "report_head",
]
