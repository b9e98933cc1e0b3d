"""The device of a cell: its choice, its name, and how its arithmetic repeats."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from marginbench.errors import UnusableDevice, one_line


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        UnusableDevice: a CUDA device is asked for, and this machine has none that torch can use.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise UnusableDevice(
            f"{socket.gethostname()} has no CUDA device that torch {torch.__version__} can use "
            f"(CUDA_VISIBLE_DEVICES is {visible!r}), and {name!r} was asked for"
        )
    return torch.device(name)


# CUDA's and torch's words for what another machine may not have. An illegal access and a failed
# assertion are missing: they are a program's.
_BROKEN = re.compile(
    "no CUDA-capable device|No CUDA GPUs are available|invalid device ordinal|busy or unavailable"
    "|(uncorrectable|ECC|NVLink|hardware stack).* error|unspecified launch failure|GPU is lost"
    "|fallen off the bus|CUDA (unknown|driver) error|CUDA error: (unknown error|out of memory)"
    "|driver version is insufficient|NVIDIA driver on your system|initialization failed"
    "|system not yet initialized|driver combination|error from cudaGetDeviceCount"
    "|no kernel image is available|not compiled with CUDA|CUDA error: initialization error"
    "|STATUS_NOT_INITIALIZED",
    re.IGNORECASE,
)


def device_fault(error: BaseException) -> str | None:
    """What an exception says is wrong with this machine's GPU, in one line; None: it says nothing.

    A lack of memory is the machine's where other processes hold more than half of it.
    """
    if isinstance(error, UnusableDevice):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        free, total = torch.cuda.mem_get_info()
        others = total - free - torch.cuda.memory_reserved()
        if others > total / 2:
            return f"{socket.gethostname()}: other processes hold {others / total:.0%} of the GPU"
        return None
    if isinstance(error, (RuntimeError, AssertionError)) and _BROKEN.search(str(error)):
        return f"{socket.gethostname()}: {one_line(error)}"
    return None


def processor_name() -> str:
    """The processor's model, as the system names it: "AMD EPYC", say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpu_software(device: torch.device) -> str | None:
    """The versions that a GPU's arithmetic depends on: "CUDA 12.4, cuDNN 90100, driver 550.54".

    None for a device other than CUDA. The driver is left out if the system does not name it.
    """
    if device.type != "cuda":
        return None
    parts = [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
    with contextlib.suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE):
            parts.append(f"driver {found[1]}")
    return ", ".join(parts)


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
