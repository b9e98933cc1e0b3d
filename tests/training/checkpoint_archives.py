"""Checkpoint files that no run has written, by what is wrong with them."""

import io
import pickle
import struct
import zipfile


def archive(pickled, parts=(), compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
        for name, content in parts:
            file.writestr(f"archive/{name}", content)
    return stream.getvalue()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def integer(number):
    return b"\x8a\x08" + struct.pack("<q", number)


def numbers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor_of(count, size, stride, offset=0):
    """A pickled tensor of float32 on a storage that claims so many numbers."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(("
        + (text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu"))
        + (integer(count) + b"tQ" + integer(offset) + numbers(size) + numbers(stride))
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )


FOUR = [("data/0", bytes(16))]
GIGABYTES = b"\x8a\x05" + struct.pack("<q", 2**31)[:5]
FILES = {
    "a list of bytearrays": (
        archive(b"\x80\x02](" + (b"cbuiltins\nbytearray\n" + GIGABYTES + b"\x85R") * 3 + b"e."),
        "it holds the call of builtins.bytearray",
    ),
    "a storage made by a call": (
        archive(b"\x80\x02ctorch\nFloatStorage\n" + GIGABYTES + b"\x85R."),
        "a call of what is no function",
    ),
    "a tensor made by a call": (
        archive(b"\x80\x02ctorch\nTensor\n" + GIGABYTES + b"\x85\x81."),
        "it holds the call of torch.Tensor",
    ),
    "a storage of gigabytes": (
        archive(tensor_of(2**31, [4], [1]), FOUR),
        "a storage of 16 bytes that claims 2147483648 numbers",
    ),
    "a tensor of gigabytes": (archive(tensor_of(4, [2**31], [1]), FOUR), "ends beyond its storage"),
    "a tensor of great steps": (archive(tensor_of(4, [2], [2**40]), FOUR), "ends beyond its"),
    "a tensor far away": (archive(tensor_of(4, [0], [1], 2**40), FOUR), "ends beyond its storage"),
    "a tensor of no length": (archive(tensor_of(4, [-1], [1]), FOUR), "not rebuilt as torch does"),
    "a storage that is missing": (archive(tensor_of(4, [4], [1])), "a storage that is not there"),
    "a key whose hash never ends": (
        archive(
            b"\x80\x02)q\x00"
            + b"".join(b"h%ch%c\x86q%c" % (k, k, k + 1) for k in range(60))
            + b"}h\x3cNs."
        ),
        "a key that is no short text or whole number",
    ),
    "compressed parts": (
        archive(tensor_of(4, [4], [1]), FOUR, zipfile.ZIP_DEFLATED),
        "its part 'archive/data.pkl' is compressed",
    ),
    "a second pickle": (
        archive(tensor_of(4, [4], [1]), [*FOUR, ("DATA.PKL", b"")]),
        "its parts are not those of a checkpoint",
    ),
    "no pickle": (archive(b""), "it holds a damaged instruction"),
    "plain values": (archive(b"\x80\x02]."), "it is no checkpoint of a run"),
    "no archive": (b"PK\x03\x04 and then something else", "it is no whole zip archive"),
    "an archive behind a pickle": (
        pickle.dumps({}, protocol=2) + archive(tensor_of(4, [4], [1]), FOUR),
        "it does not begin as a zip archive",
    ),
    "nothing": (b"", "it does not begin as a zip archive"),
}
