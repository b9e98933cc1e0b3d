"""The layers in C++: compiled once by this machine's compiler, and kept for all processes.

Nothing here needs torch, so that a process that only starts others can compile for them.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from marginbench.data.files.paths import cache_folder
from marginbench.files import temporary_beside

SOURCE = Path(__file__).with_name("fused_layers.cpp")
SOURCE_DIGEST = "da544ca814592b10"
"""Of :data:`SOURCE`, so that the code that decides a result names it; a test compares the two."""
COMPILERS = ("g++", "clang++", "c++")
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fPIC", "-shared"),
)
COMPILER_VARIABLE = "MARGINBENCH_CXX"
"""Names the compiler; empty for none."""
_SECONDS = 300
_POINTER = ctypes.c_void_p
_NUMBER = ctypes.c_double


@cache
def native_library() -> ctypes.CDLL | None:
    """The compiled layers, with their arguments declared; None where they cannot be compiled."""
    path, _ = compile_layers()
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    library.layer_forward.argtypes = [*[_POINTER] * 6, _NUMBER, _NUMBER, *[_POINTER] * 7]
    library.layer_backward.argtypes = [_POINTER] * 16
    library.layer_evaluate.argtypes = [*[_POINTER] * 6, _NUMBER, *[_POINTER] * 3]
    for name in ("layer_forward", "layer_backward", "layer_evaluate"):
        getattr(library, name).restype = None
    return library


@cache
def compile_layers() -> tuple[Path | None, str]:
    """Compile the layers unless that was done, for this processor and by this compiler.

    Of processes that start at once one compiles and the others wait for it.

    Returns:
        The library and "", or None and the reason, one line.
    """
    compiler = _compiler()
    if compiler is None:
        wanted = os.environ.get(COMPILER_VARIABLE)
        return None, f"no C++ compiler ({' or '.join([wanted] if wanted else COMPILERS)})"
    about = Path(compiler).stat()
    parts = [SOURCE.read_text(), *FLAGS, compiler, about.st_size, about.st_mtime_ns, _processor()]
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]
    path = cache_folder() / "native" / f"{digest}.so"
    if path.exists():
        return path, ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return (path, "") if path.exists() else _compile(compiler, path)
    except OSError as error:
        return None, f"{path} cannot be written: {error.strerror or error}"


def _compile(compiler: str, path: Path) -> tuple[Path | None, str]:
    temporary = temporary_beside(path)
    command = [compiler, *FLAGS, "-o", str(temporary), str(SOURCE)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            return None, f"{compiler} failed: {(lines or ['no message'])[0].strip()}"
        temporary.replace(path)
    except subprocess.TimeoutExpired:
        return None, f"{compiler} took longer than {_SECONDS} s"
    finally:
        temporary.unlink(missing_ok=True)
    return path, ""


def _compiler() -> str | None:
    named = os.environ.get(COMPILER_VARIABLE)
    if named is not None:
        return shutil.which(named) if named else None
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def _processor() -> str:
    """What "native" means here: the processor's instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = ("flags", "Features", "model name")
    return "\n".join([platform.machine(), *sorted({li for li in lines if li.startswith(told)})])
