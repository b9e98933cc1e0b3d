"""The kit that proves a head or a regulariser: the contract as checks that run on anybody's.

In a test of your own package::

    import pytest
    from marginbench.testing import head_checks

    @pytest.mark.parametrize("check", head_checks("my-head", m=0.3), ids=str)
    def test_my_head(check):
        check()

A regulariser is proved in the same way, with ``regulariser_checks("my-regulariser")``.
"""

from marginbench.testing.check_in_modes import CheckFailure, CheckResult
from marginbench.testing.checks import HeadCheck, check_head, check_names, head_checks
from marginbench.testing.regulariser_checks import (
    RegulariserCheck,
    check_regulariser,
    regulariser_checks,
)
from marginbench.testing.reports import (
    HeadReport,
    print_checks,
    report_head,
    report_regulariser,
)

__all__ = [
    "CheckFailure",
    "CheckResult",
    "HeadCheck",
    "HeadReport",
    "RegulariserCheck",
    "check_head",
    "check_names",
    "check_regulariser",
    "head_checks",
    "print_checks",
    "regulariser_checks",
    "report_head",
    "report_regulariser",
]
