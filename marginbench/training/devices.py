"""The device of a cell: its choice, its name, and how its arithmetic repeats."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from marginbench.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        UserError: a CUDA device is asked for, and this machine has none that torch can use.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise UserError(
            f"{socket.gethostname()} has no CUDA device that torch {torch.__version__} can use "
            f"(CUDA_VISIBLE_DEVICES is {visible!r}), and {name!r} was asked for"
        )
    return torch.device(name)


def processor_name() -> str:
    """The processor's model, as the system names it: "AMD EPYC", say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def use_threads(threads: int) -> None:
    """Let torch, and the linear algebra of numpy and scipy, use so many CPU threads.

    numpy's has by itself one a core, of which each waits for the others at full load: in processes
    side by side a decomposition of small matrices takes several times as long.
    """
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


def make_deterministic(device: torch.device) -> None:
    """Same cell, same result: to the bit on the CPU; on CUDA as far as cuDNN goes.

    Float32 is float32: by default, newer GPUs would convolve in TF32, with a mantissa of 10 bits.
    One CPU thread does everything in order anyway, and the switch takes a second to load.
    """
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    # Without a workspace of its own for each stream, cuBLAS does not repeat itself.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory guards against reading it unset; it costs 230 fills a step here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def device_name(device: torch.device, processes: int) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name if processes == 1 else f"{processes} × {name}"
