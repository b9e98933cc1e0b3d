"""``.bin`` files that would run something, or claim or ask for more than they have."""

import pickle
import time
import tracemalloc

import numpy as np
import pytest

from marginbench.data.formats import plain_pickle
from marginbench.data.formats.pickle_stand_ins import RefusedPickle
from marginbench.data.formats.pickled_arrays import FUNCTIONS
from marginbench.data.formats.plain_pickle import read_plain_pickle
from marginbench.data.formats.verification_bins import read_bin
from marginbench.errors import UserError
from tests.data.pickle_files import (
    BOMBS,
    SAME,
    encoded,
    python_2_row,
)


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def global_call(module, name, argument=b"X\x04\x00\x00\x00evil"):
    return b"\x80\x02c" + module + b"\n" + name + b"\n" + argument + b"\x85R."


def stack_global_call(module, name):
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text for text in (module, name))
    return b"\x80\x04" + texts + b"\x93X\x04\x00\x00\x00evil\x85R."


def run_mark(folder):
    return f"import pathlib; pathlib.Path({str(folder / 'it ran')!r}).touch()"


ATTACKS = {
    "os.system": (global_call(b"os", b"system"), "the call of os.system"),
    "posix.system": (global_call(b"posix", b"system"), "the call of posix.system"),
    "eval": (global_call(b"builtins", b"eval"), "the call of builtins.eval"),
    "old eval": (global_call(b"__builtin__", b"eval"), "the call of __builtin__.eval"),
    "exec on stack": (stack_global_call(b"builtins", b"exec"), "the call of builtins.exec"),
    "getattr": (global_call(b"builtins", b"getattr"), "the call of builtins.getattr"),
    "numpy.load": (global_call(b"numpy", b"load"), "the call of numpy.load"),
    "numpy.fromfile": (global_call(b"numpy", b"fromfile"), "the call of numpy.fromfile"),
    "runstring": (
        global_call(b"numpy.testing._private.utils", b"runstring"),
        "the call of numpy.testing._private.utils.runstring",
    ),
    "dotted": (stack_global_call(b"numpy", b"ndarray.tofile"), "numpy.ndarray.tofile"),
    "dotted through an admitted module": (
        stack_global_call(b"_codecs", b"encode.__class__"),
        "the call of _codecs.encode.__class__",
    ),
    "dotted module": (stack_global_call(b"numpy.core.multiarray.sys", b"exit"), "sys.exit"),
    "copyreg": (global_call(b"copyreg", b"_reconstructor"), "the call of copyreg._reconstructor"),
    "codecs.open": (global_call(b"_codecs", b"lookup"), "the call of _codecs.lookup"),
    "a codec that unpacks": (
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
        "_codecs.encode for something other than bytes",
    ),
    "instance": (b"(ios\nsystem\n.", "the instruction INST"),
    "object": (b"(cos\nsystem\no.", "the call of os.system"),
    "new object": (b"cnumpy\nndarray\n)\x81.", "the instruction NEWOBJ"),
    "extension": (b"\x80\x02\x82\x01.", "the instruction EXT1"),
    "persistent": (b"Pevil\n.", "the instruction PERSID"),
    "set": (b"\x80\x04\x8f.", "the instruction EMPTY_SET"),
    "a name on two lines": (stack_global_call(b"a\nb", b"\x1b[31m"), r"the call of a\nb.\x1b[31m"),
    "a number as key": (b"\x80\x02}N]s.", "a key that is no short text or whole number"),
    "a long key": (b"\x80\x02}X\x00\x01\x00\x00" + b"k" * 256 + b"]s.", "a key that is no short"),
    "entry of a list": (b"\x80\x02]K\x01K\x02s.", "an entry set in what is no dictionary"),
    "call of a list": (b"\x80\x02])R.", "a call of what is no function"),
    "call of a type": (b"\x80\x02cnumpy\nndarray\n)R.", "a call of what is no function"),
    "call with a list": (b"\x80\x02cnumpy\ndtype\n]R.", "a call of what is no function"),
    "other arguments": (b"\x80\x02c__builtin__\nbytes\nK\x05\x85R.", "other arguments"),
    "state of a list": (b"\x80\x02](K\x01tb.", "a state set on what has none"),
    "a function as value": (b"\x80\x02cnumpy\ndtype\n.", "a function or type as a value"),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path, monkeypatch, attack, nested):
    content, words = ATTACKS[attack]
    if nested:
        body = content[2:-1] if content[:1] == b"\x80" else content[:-1]
        content = b"\x80\x04](" + body + b"e."
    monkeypatch.setattr("pickle.loads", None)
    monkeypatch.setattr("builtins.__import__", None)
    try:
        with pytest.raises(RefusedPickle) as refusal:
            read_plain_pickle(content, FUNCTIONS)
    finally:
        monkeypatch.undo()
    assert words in str(refusal.value)
    path = tmp_path / "lfw.bin"
    path.write_bytes(content)
    with pytest.raises(UserError) as refusal:
        read_bin(path)
    assert str(path) in str(refusal.value)
    assert words in str(refusal.value)
    assert "nothing of it was run" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_that_a_real_unpickler_would_run_is_not_run(tmp_path, protocol):
    evil = Calls(exec, run_mark(tmp_path))
    array = np.array([evil], dtype=object)
    images = encoded()
    path = tmp_path / "lfw.bin"
    for value in (
        evil,
        (evil, SAME),
        ([*images[:-1], evil], SAME),
        (images, [*SAME[:-1], evil]),
        (images, SAME, evil),
        ([*images[:-1], array], SAME),
        (images, [*SAME[:-1], Calls(Calls, evil)]),
        ([*images[:-1], [(evil,)]], SAME),
    ):
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        with pytest.raises(UserError, match=r"is refused: it holds"):
            read_bin(path)
        assert not (tmp_path / "it ran").exists()
    pickle.loads(pickle.dumps(evil))
    assert (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([1.5, 2]), "an array of 'f8'"),
        (np.zeros(3, dtype=[("a", "u1"), ("b", "u1")]), "an array of 'V2'"),
        (np.array([None]), "an array of 'O8'"),
        (np.zeros((1, 1, 1, 1, 1), dtype=np.uint8), "1 bytes that claims another shape"),
        (np.zeros(3, dtype=np.int8), "an array of 'i1'"),
        (np.float64(3), "an array of 'f8'"),
        (np.array([1, 2], dtype=">i8"), "whose numbers begin with their highest byte"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_other_arrays_are_refused(array, words, protocol):
    with pytest.raises(RefusedPickle, match=r"array|numpy") as refusal:
        read_plain_pickle(pickle.dumps([array], protocol=protocol), FUNCTIONS)
    # Arrays that hold objects are pickled by way of a list of them in every protocol.
    assert words in str(refusal.value)


def test_an_array_that_claims_more_than_it_has_is_refused():
    content = python_2_row(b"abc")
    claim = content.replace(b"J\x03\x00\x00\x00t", b"J\xff\xff\xff\x7ft")
    assert claim != content
    with pytest.raises(RefusedPickle, match="3 bytes that claims another shape"):
        read_plain_pickle(b"\x80\x02" + claim + b".", FUNCTIONS)
    with_fields = content.replace(b"U\x01|NNN", b"U\x01|NU\x01aN")
    with pytest.raises(RefusedPickle, match="other than plain numbers"):
        read_plain_pickle(b"\x80\x02" + with_fields + b".", FUNCTIONS)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_neither_time_nor_memory(tmp_path, bomb):
    path = tmp_path / "lfw.bin"
    path.write_bytes(BOMBS[bomb])
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"is refused|is no verification set") as refusal:
            read_bin(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
    assert time.process_time() - start < 5
    assert len(str(refusal.value)) < 1000


def test_the_number_of_instructions_is_limited(tmp_path, monkeypatch):
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((encoded(), SAME)))
    assert len(read_bin(path).images) == 24
    monkeypatch.setattr(plain_pickle, "MOST_INSTRUCTIONS", 30)
    with pytest.raises(UserError, match="is refused: it holds more than 30 instructions"):
        read_bin(path)
