"""Threads of a cell: torch's and those of numpy's linear algebra."""

import numpy as np
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from marginbench.training.devices import use_threads


def of_linear_algebra():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_numpys_linear_algebra_has_the_cells_threads():
    np.linalg.eigh(np.eye(2))
    before = torch.get_num_threads()
    with threadpool_limits(2, user_api="blas"):
        assert of_linear_algebra() == {2}
        use_threads(1)
        assert torch.get_num_threads() == 1
        assert of_linear_algebra() == {1}
    torch.set_num_threads(before)
