"""Pickles as Python 3 and Python 2 wrote them, and some that claim more than they have."""

import io
import struct

import numpy as np
from PIL import Image


def python_2_text(content):
    """A ``str`` as Python 2 pickles it in protocol 2."""
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + struct.pack("<i", len(content)) + content


def python_2_array(array):
    """An array of uint8 as numpy pickled it under Python 2, in the order that it lies in memory."""
    by_columns = array.flags.fnc
    shape = b"".join(b"J" + struct.pack("<i", length) for length in array.shape)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01(" + shape + b"t"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x88" if by_columns else b"\x89")
        + python_2_text(array.tobytes("F" if by_columns else "C"))
        + b"tb"
    )


def doubling(levels, pack):
    """A list (or tuple) of twice the last one, again and again: two to the power of levels."""
    content = b"\x80\x04]\x94"
    for level in range(levels):
        get = b"h" + bytes([level])
        content += b"](" + get * 2 + b"e" if pack is list else b"(" + get * 2 + b"t"
        content += b"\x94"
    return content


BOMBS = {
    "bytes of 8 exabytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**63 - 1) + b"x.",
    "bytes of 2 exabytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**61) + b"x.",
    "bytes of 4 gigabytes": b"\x80\x03B" + struct.pack("<I", 2**32 - 1) + b"x.",
    "text of 4 gigabytes": b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.",
    "text of Python 2 of 2 gigabytes": b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.",
    "text of negative length": b"\x80\x02T" + struct.pack("<i", -5) + b"x.",
    "array of 2 exabytes": b"\x80\x05\x96" + struct.pack("<Q", 2**61) + b"x.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"].",
    "integer of 2 gigabytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "long integer": b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
    "decimal of 100,000 digits": b"I" + b"9" * 100_000 + b"\n.",
    "long decimal of 100,000 digits": b"L" + b"9" * 100_000 + b"L\n.",
    "bytes as if they were many": b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",
    "dtype of 2 gigabytes": b"cnumpy\ndtype\nX\x0b\x00\x00\x00V2000000000K\x00K\x01\x87R.",
    "doubled lists": doubling(200, list) + b".",
    "doubled tuples": doubling(200, tuple) + b".",
    "doubled tuples as shape": b"\x80\x04cnumpy.core.numeric\n_frombuffer\n(C\x01a"
    b"cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87R"
    + doubling(200, tuple)[2:]
    + b"X\x01\x00\x00\x00CtR.",
    "doubled tuples as key": doubling(200, tuple).replace(b"]", b")", 1) + b"}h\xc8Ns.",
    "one text encoded again and again": b"\x80\x04c_codecs\nencode\n\x94X\x00\x00\x01\x00"
    + b"x" * 2**16
    + b"\x94\x8c\x06latin1\x94]("
    + b"h\x00h\x01h\x02\x86R" * 4000
    + b"e.",
    "one long text as a key again and again": b"\x80\x04X\x00\x00\x01\x00"
    + b"x" * 2**16
    + b"\x94]("
    + b"}h\x00Ns" * 4000
    + b"e.",
    "duplicates": b"\x80\x02]22222.",
    "no end": b"\x80\x02](",
    "no beginning": b"",
    "no pickle": b"\xff\xd8\xff\xe0 an image",
    "marks only": b"\x80\x02(((((.",
    "empty stack": b"\x80\x02a.",
    "list below the mark": b"\x80\x02K\x01(K\x02e.",
    "unknown memo": b"\x80\x02h\x05.",
    "too much left": b"\x80\x02]].",
}


def encoded(count=24, kind="PNG"):
    images = []
    for number in range(count):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 255 - number, 7)).save(stream, kind)
        images.append(stream.getvalue())
    return images


SAME = [True, False] * 6


def python_2_row(content):
    return python_2_array(np.frombuffer(content, dtype=np.uint8))
