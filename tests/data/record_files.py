"""RecordIO written byte by byte, by the format's description and not by the code under test."""

import io
import struct

import numpy as np
from PIL import Image

MAGIC = b"\x0a\x23\xd7\xce"


def part(kind, content):
    word = (kind << 29) | len(content)
    return MAGIC + word.to_bytes(4, "little") + content + b"\0" * (-len(content) % 4)


def record(content):
    """A record; split, as dmlc's writer does, wherever it has the magic number at a multiple of 4.

    The magic number itself is left out there.
    """
    cuts = [i for i in range(0, len(content) // 4 * 4, 4) if content[i : i + 4] == MAGIC]
    if not cuts:
        return part(0, content)
    out, begin = b"", 0
    for number, cut in enumerate(cuts):
        out += part(1 if number == 0 else 2, content[begin:cut])
        begin = cut + 4
    return out + part(3, content[begin:])


def image_record(labels, content, key=0):
    """IRHeader and content; a number as label, or a list of them."""
    if isinstance(labels, list):
        head = struct.pack("<IfQQ", len(labels), 0.0, key, 0)
        return head + struct.pack(f"<{len(labels)}f", *labels) + content
    return struct.pack("<IfQQ", 0, labels, key, 0) + content


def png(number, size=16):
    random = np.random.default_rng(number)
    stream = io.BytesIO()
    pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_records(folder, contents):
    """train.rec and train.idx of contents by key; returns each one's offset."""
    folder.mkdir(parents=True, exist_ok=True)
    offsets, out = {}, b""
    for key, content in contents.items():
        offsets[key] = len(out)
        out += record(content)
    (folder / "train.rec").write_bytes(out)
    (folder / "train.idx").write_text("".join(f"{k}\t{o}\n" for k, o in offsets.items()))
    return offsets


def face_records(counts, arrays=False, images=None):
    """A face set as insightface writes it: record 0, the images, then a record a person."""
    labels = [person for person, count in enumerate(counts) for _ in range(count)]
    first, last = len(labels) + 1, len(labels) + 1 + len(counts)
    contents = {0: image_record([float(first), float(last)], b"")}
    for key, label in enumerate(labels, start=1):
        value = [float(label), 1.0] if arrays else float(label)
        image = png(key) if images is None else images[key - 1]
        contents[key] = image_record(value, image, key)
    start = 1
    for person, count in enumerate(counts):
        key = first + person
        contents[key] = image_record([float(start), float(start + count)], b"", key)
        start += count
    return contents


def write_faces(folder, counts, arrays=False, images=None):
    offsets = write_records(folder, face_records(counts, arrays, images))
    (folder / "property").write_text(f"{len(counts)},16,16")
    return offsets
