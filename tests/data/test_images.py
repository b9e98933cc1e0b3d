"""Encoded images: which formats are read, and that none of them starts a program."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from marginbench.data import load_data
from marginbench.data.files.content import content_key
from marginbench.data.formats.images import MOST_PIXELS, Preprocessing, decode_image
from marginbench.data.formats.verification_bins import verification_bin
from marginbench.data.sources.face_sets import read_face_set
from marginbench.errors import UserError
from tests.data.record_files import image_record, write_records

PREPROCESSING = Preprocessing(8, "rgb")
ANY_SIZE = Preprocessing(None, "rgb")
EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 9 7
%%EndComments
showpage
%%EOF
"""


def encoded(format_name, size=(9, 7), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, 100).save(file, format=format_name)
    return file.getvalue()


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A Ghostscript that shows whether it was started."""
    started = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch '{started}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(program))
    return started


def test_an_image_starts_no_program(ghostscript):
    with Image.open(io.BytesIO(EPS)) as opened, pytest.raises(Exception, match="returned non-zero"):
        opened.load()
    assert ghostscript.exists(), "Pillow starts it where it may"
    ghostscript.unlink()
    with pytest.raises(UserError, match="x cannot be decoded: it is damaged or of another format"):
        decode_image("x", io.BytesIO(EPS), ANY_SIZE)
    assert not ghostscript.exists()


def test_a_class_folder_starts_no_program(ghostscript, write_folder):
    folder = write_folder()
    (folder / "train" / "ant" / "1.jpg").write_bytes(EPS)
    with pytest.raises(
        UserError, match=r"ant/1.jpg' cannot be decoded: .* allowed: BMP, GIF, JPEG"
    ):
        load_data("folder", {"name": "mine"})
    assert not ghostscript.exists()


def test_a_record_starts_no_program(ghostscript, tmp_path):
    write_records(tmp_path, {1: image_record(0.0, encoded("PNG")), 2: image_record(1.0, EPS)})
    files = [(tmp_path / name, content_key(tmp_path / name)) for name in ("train.rec", "train.idx")]
    faces = read_face_set(tmp_path, files, PREPROCESSING)
    assert faces.decode(0).shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"record 2 \(at byte \d+\) cannot be decoded"):
        faces.decode(1)
    assert not ghostscript.exists()


def test_a_verification_set_starts_no_program(ghostscript, tmp_path):
    images = [encoded("PNG")] * 39 + [EPS]
    file = tmp_path / "lfw.bin"
    file.write_bytes(pickle.dumps((images, [True] * 20)))
    with pytest.raises(UserError, match=r"lfw.bin': image 39 cannot be decoded"):
        verification_bin(file, content_key(file), PREPROCESSING)
    assert not ghostscript.exists()


@pytest.mark.parametrize("format_name", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_formats_that_are_read(format_name):
    image = decode_image("x", io.BytesIO(encoded(format_name)), ANY_SIZE)
    assert image.shape == (3, 7, 9)


@pytest.mark.parametrize("format_name", ["ICO", "PCX", "TGA", "SGI", "PDF"])
def test_other_formats_are_refused(format_name):
    with pytest.raises(UserError, match=r"allowed: BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"):
        decode_image("x", io.BytesIO(encoded(format_name)), ANY_SIZE)


def claiming(width, height):
    """A PNG that claims such a size, of which not a pixel is there."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("width", [9_500, 20_000])
def test_too_many_pixels_are_refused_before_they_are_decoded(width, monkeypatch, recwarn):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    with pytest.raises(
        UserError, match=r"^x (is 9500×9500 pixels; allowed: up to|cannot be)"
    ) as it:
        decode_image("x", io.BytesIO(claiming(width, width)), PREPROCESSING)
    assert "pixels" in str(it.value)
    assert width * width > MOST_PIXELS


def test_a_large_image_is_read():
    image = decode_image(
        "x", io.BytesIO(encoded("PNG", (3000, 2000), "L")), Preprocessing(8, "grey")
    )
    assert np.array_equal(image, np.full((1, 8, 8), 100))
