"""The layers in C++: compiled once by this machine's compiler, and kept for all processes.

Nothing here needs torch, so that a process that only starts others can compile for them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import BinaryIO

from marginbench.data.files.paths import cache_folder
from marginbench.files import (
    is_only_ours,
    locked,
    open_regular,
    remove_temporaries,
    temporary_beside,
    write_atomically,
)
from marginbench.text import printable_line

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
SLOWER = "fused layers are not used here ({reason}); on the CPU they run as torch's, slower"
"""Said wherever cells are trained."""
_SECONDS = 300
_MOST_BYTES = 2**24
_MOST_CHARACTERS = 200
_SEAL = hashlib.sha256().digest_size
_KEPT_OPEN: list[BinaryIO] = []
_POINTER = ctypes.c_void_p
_NUMBER = ctypes.c_double


def native_library() -> ctypes.CDLL | None:
    """The compiled layers; None if :func:`compile_layers` has a reason why there are none."""
    return compile_layers()[0]


@cache
def compile_layers() -> tuple[ctypes.CDLL | None, str]:
    """Load the layers, compiled for this processor by this compiler; compile them if need be.

    Of processes that start at once one compiles and the others wait for it. What was compiled is
    kept in a folder that only this user can write, with its digest at its end: a file that is cut,
    or is another one, is compiled again, and a file of another user is never loaded.

    Returns:
        The library and "", or None and the reason, one line.
    """
    compiler = _compiler()
    if compiler is None:
        wanted = os.environ.get(COMPILER_VARIABLE)
        return None, f"no C++ compiler ({' or '.join([wanted] if wanted else COMPILERS)})"
    # A cache that several users share has a folder for each of them.
    folder = cache_folder() / f"native-{os.geteuid()}"
    try:
        about = Path(compiler).stat()
        parts = [SOURCE.read_text(), *FLAGS, compiler, about.st_size, about.st_mtime_ns]
        wanted = hashlib.sha256("\n".join(map(str, [*parts, _processor()])).encode()).hexdigest()
        path = folder / f"{wanted[:24]}.so"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_only_ours(folder.lstat()):
            return None, f"{folder} can be written by other users"
        library = _load(path, wanted)
        if library is not None:
            return library, ""
        with locked(folder / "lock") as held:
            library = _load(path, wanted)
            if library is None and held:
                remove_temporaries(folder)
            reason = "" if library else _compile(compiler, path, wanted)
            library = library or (None if reason else _load(path, wanted))
    except OSError as error:
        return None, f"{error.filename2 or error.filename or folder}: {error.strerror or error}"
    if library is None:
        return None, reason or f"{path} does not hold what was written to it"
    return library, ""


def _load(path: Path, wanted: str) -> ctypes.CDLL | None:
    """The library in a file; None if the file is missing or is not what was compiled.

    Raises:
        OSError: the linker refuses it (on a file system without execution, say).
    """
    try:
        file = open_regular(path)
    except OSError:
        return None
    # Kept open: what is checked is what is loaded, whatever others do to the folders above, and
    # the linker takes two files of one name for the same.
    with contextlib.ExitStack() as closed:
        closed.enter_context(file)
        content = file.read(_MOST_BYTES)
        ours = is_only_ours(os.fstat(file.fileno()))
        if not ours or content != _sealed(content[:-_SEAL], wanted):
            return None
        opened = Path(f"/proc/self/fd/{file.fileno()}")
        try:
            library = ctypes.CDLL(str(opened if opened.exists() else path))
        except OSError as error:
            why = f"it cannot be loaded ({str(error).rpartition(': ')[2]})"
            raise OSError(errno.ENOEXEC, why, str(path)) from None
        closed.pop_all()
    _KEPT_OPEN.append(file)
    library.layer_forward.argtypes = [*[_POINTER] * 6, _NUMBER, _NUMBER, *[_POINTER] * 7]
    library.layer_backward.argtypes = [_POINTER] * 16
    library.layer_evaluate.argtypes = [*[_POINTER] * 6, _NUMBER, *[_POINTER] * 3]
    for name in ("layer_forward", "layer_backward", "layer_evaluate"):
        getattr(library, name).restype = None
    return library


def _sealed(content: bytes, wanted: str) -> bytes:
    """What was compiled and its digest, which the linker does not read."""
    return content + hashlib.sha256(wanted.encode() + content).digest()


def _compile(compiler: str, path: Path, wanted: str) -> str:
    """Compile, and write the file; the reason if the compiler fails."""
    temporary = temporary_beside(path)
    command = [compiler, *FLAGS, "-o", str(temporary), str(SOURCE)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS)
        if done.returncode:
            message = done.stderr.decode(errors="replace")
            lines = [line for line in message.splitlines() if "error" in line]
            told = printable_line((lines or ["no message"])[0].strip()[:_MOST_CHARACTERS])
            return f"{compiler} failed: {told}"
        content = _sealed(temporary.read_bytes(), wanted)
    except subprocess.TimeoutExpired:
        return f"{compiler} took longer than {_SECONDS} s"
    finally:
        temporary.unlink(missing_ok=True)

    def write(file: BinaryIO) -> None:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)

    write_atomically(path, write)
    return ""


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
