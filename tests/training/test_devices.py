"""Threads of a cell, torch's and those of numpy's linear algebra; and whose fault an error is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from marginbench.errors import UserError
from marginbench.training.devices import device_fault, gpu_software, use_threads


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


@pytest.mark.parametrize(
    ("error", "is_fault"),
    [
        (RuntimeError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel"), True),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), True),
        (RuntimeError("Found no NVIDIA driver on your system. Please check"), True),
        (RuntimeError("No CUDA GPUs are available"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: invalid device ordinal"), True),
        (
            RuntimeError("CUDA error: no kernel image is available for execution on the device"),
            True,
        ),
        (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up"), True),
        (AssertionError("Torch not compiled with CUDA enabled"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (UserError("No CUDA GPUs are available"), False),
        (ValueError("invalid device ordinal"), False),
    ],
)
def test_a_machines_fault_is_told_from_a_programs(error, is_fault):
    fault = device_fault(error)
    assert (fault is not None) is is_fault
    assert fault is None or ("\n" not in fault and str(error).splitlines()[0] in fault)


@pytest.mark.parametrize(("reserved", "is_fault"), [(1 << 30, True), (70 << 30, False)])
def test_memory_that_others_hold_is_the_machines_fault(reserved, is_fault, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: reserved)
    assert (device_fault(torch.OutOfMemoryError("CUDA out of memory")) is not None) is is_fault


DRIVER = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024
GCC version:  gcc version 12.2.0
"""
OPEN_DRIVER = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build  (user)"
)


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        (DRIVER, ", driver 550.54.15"),
        (OPEN_DRIVER, ", driver 570.86.10"),
        ("other", ""),
        (None, ""),
    ],
)
def test_the_software_of_a_gpu_is_named(text, driver, monkeypatch):
    def read(*_, **__):
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 90100)
    assert gpu_software(torch.device("cuda")) == f"CUDA 12.4, cuDNN 90100{driver}"
    assert gpu_software(torch.device("cpu")) is None
