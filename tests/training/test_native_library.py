"""The kept library of compiled layers: damaged, another user's, or on an odd file system."""

import os
import shutil
import stat

import pytest

from marginbench.training import native_library
from marginbench.training.native_library import COMPILER_VARIABLE, SOURCE_DIGEST

compile_now = native_library.compile_layers.__wrapped__

needs_compiler = pytest.mark.skipif(
    native_library.compile_layers()[0] is None, reason=native_library.compile_layers()[1]
)


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A compiler that hands out a library compiled once, and notes that it was called."""
    real = next(filter(None, map(shutil.which, native_library.COMPILERS)), "c++")
    kept = tmp_path.parent / f"library-{SOURCE_DIGEST}.so"
    file = tmp_path / "compiler"
    file.write_text(
        f"#!/bin/sh\necho called >> {tmp_path}/calls\n"
        f'[ -e {kept} ] || {real} "$@" -o {kept}\n'
        'while [ "$1" != -o ]; do shift; done\n'
        f'cp {kept} "$2"\n'
    )
    file.chmod(0o755)
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(COMPILER_VARIABLE, str(file))
    return file


def calls(compiler):
    file = compiler.with_name("calls")
    return len(file.read_text().split()) if file.exists() else 0


def the_file(compiler):
    (file,) = (compiler.parent / "cache").glob("native-*/*.so")
    return file


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another(path):
    # Whole and sealed, but by somebody else.
    os.chown(path, 65534, 65534)


def place(make):
    def damage(path):
        path.unlink()
        make(path)

    return damage


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "flipped": flip,
    "text": lambda path: path.write_text("no library"),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "sparse": lambda path: os.truncate(path, 2**40),
    "writable by others": lambda path: path.chmod(0o666),
    "a pipe": place(os.mkfifo),
    "a link to a device": place(lambda path: path.symlink_to("/dev/zero")),
    "a link to nothing": place(lambda path: path.symlink_to("nothing")),
    "a link to itself": place(lambda path: path.symlink_to(path.name)),
    "unsealed": lambda path: path.write_bytes(path.read_bytes()[:-32]),
}


@needs_compiler
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_library_is_compiled_again(damage, compiler):
    assert compile_now()[0]
    assert (compile_now()[1], calls(compiler)) == ("", 1)
    file = the_file(compiler)
    DAMAGE[damage](file)
    assert compile_now()[0]
    assert compile_now()[1] == ""
    assert calls(compiler) == 2
    assert stat.S_ISREG(file.lstat().st_mode)
    assert [path.name for path in file.parent.iterdir()].count("lock") == 1
    assert len(list(file.parent.iterdir())) == 2


@needs_compiler
def test_a_folder_in_the_librarys_place_is_a_reason_and_no_error(compiler):
    compile_now()
    file = the_file(compiler)
    file.unlink()
    file.mkdir()
    library, reason = compile_now()
    assert library is None
    assert str(file) in reason


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_library_of_another_user_is_not_loaded(compiler):
    compile_now()
    of_another(the_file(compiler))
    assert compile_now()[0]
    assert calls(compiler) == 2
    assert the_file(compiler).stat().st_uid == os.geteuid()


@needs_compiler
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_can_write_is_refused(mode, compiler):
    compile_now()
    the_file(compiler).parent.chmod(mode)
    library, reason = compile_now()
    assert library is None
    assert reason == f"{the_file(compiler).parent} can be written by other users"


@needs_compiler
def test_the_folder_is_private_whatever_the_umask(compiler):
    before = os.umask(0)
    try:
        assert compile_now()[0]
    finally:
        os.umask(before)
    file = the_file(compiler)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@needs_compiler
def test_a_link_in_the_locks_place_destroys_no_other_file(compiler, tmp_path):
    compile_now()
    precious = tmp_path / "precious"
    precious.write_text("kept")
    folder = the_file(compiler).parent
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(precious)
    the_file(compiler).unlink()
    library, reason = compile_now()
    assert library is None
    assert str(folder) in reason
    assert precious.read_text() == "kept"


@needs_compiler
def test_what_the_linker_refuses_is_a_reason(compiler, monkeypatch):
    def refuse(name):
        raise OSError(f"{name}: failed to map segment from shared object")

    monkeypatch.setattr(native_library.ctypes, "CDLL", refuse)
    library, reason = compile_now()
    assert library is None
    assert reason == (
        f"{the_file(compiler)}: it cannot be loaded (failed to map segment from shared object)"
    )


def test_why_the_layers_are_not_compiled_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv(COMPILER_VARIABLE, "no-such-compiler")
    assert compile_now() == (None, "no C++ compiler (no-such-compiler)")
    broken = tmp_path / "broken"
    monkeypatch.setenv(COMPILER_VARIABLE, str(broken))
    messages = {
        "echo 'here is an error' >&2": "failed: here is an error",
        r"printf 'err\377 error \033[31m' >&2": "failed: err� error \\x1b[31m",
        "true": "failed: no message",
    }
    for script, message in messages.items():
        broken.write_text(f"#!/bin/sh\n{script}\nexit 1\n")
        broken.chmod(0o755)
        assert compile_now() == (None, f"{broken} {message}")
    broken.write_text("#!/bin/sh\nexit 0\n")
    assert compile_now()[0] is None
    broken.write_bytes(b"\x7fELF no program")
    assert compile_now() == (None, f"{broken}: Exec format error")
    assert not list(tmp_path.glob("native-*/*.so"))
