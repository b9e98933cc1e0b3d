"""Transparent images are on white, opaque ones as they were, and other shapes as they are asked."""

import hashlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from marginbench.data import load_data, resolve_data_parameters
from marginbench.data.files.content import content_key
from marginbench.data.formats.images import Preprocessing, decode_image, preprocess
from marginbench.errors import UserError

PALETTE = Image.new("P", (4, 4), 9)
PALETTE.putpalette(range(3 * 16))
WHOLE = Preprocessing(None, "rgb")


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def decoded(image, preprocessing=WHOLE, kind="PNG", **options):
    return decode_image("one", encoded(image, kind, **options), preprocessing)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["RGBA", "LA"]))
def test_a_transparent_pixel_is_mixed_with_white(seed, mode):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (5, 6, len(mode)), dtype=np.uint8)
    found = decoded(Image.fromarray(pixels, mode)).astype(float)
    alpha = pixels[..., -1:] / 255
    expected = np.broadcast_to(pixels[..., :-1] * alpha + 255 * (1 - alpha), (5, 6, 3))
    assert np.abs(found - expected.transpose(2, 0, 1)).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "L", "RGB", "1", "CMYK"])
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_opaque_images_have_their_pixels_to_the_bit(mode, colour):
    random = np.random.default_rng(1)
    image = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8)).convert(mode)
    preprocessing = Preprocessing(None, colour)
    kind = "TIFF" if mode in ("CMYK", "PA") else "PNG"
    expected = np.asarray(image.convert("L" if colour == "grey" else "RGB"))
    found = decoded(image, preprocessing, kind)
    assert np.array_equal(found, np.atleast_3d(expected).transpose(2, 0, 1))


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (4, 4), (9, 9, 9, 0)),
        Image.new("LA", (4, 4), (9, 0)),
        Image.new("L", (4, 4), 9),
        Image.new("RGB", (4, 4), (9, 9, 9)),
        PALETTE,
    ],
    ids=lambda image: image.mode,
)
@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_a_transparent_colour_is_white_in_every_mode(image, kind):
    options = {}
    if "A" not in image.mode:
        options = {"transparency": (9, 9, 9) if image.mode == "RGB" else 9}
    if kind != "PNG" and image.mode != "RGBA":
        pytest.skip("written in another mode")
    options |= {"lossless": True} if kind == "WEBP" else {}
    assert (decoded(image, kind=kind, **options) == 255).all()


def earlier_content(folder):
    """The hash of names and bytes alone, which told cells apart before transparency counted."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*.png"), key=str):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return total.hexdigest()[:16]


def test_only_folders_with_transparency_have_another_content(write_folder, monkeypatch):
    folder = write_folder()
    assert content_key(folder) == earlier_content(folder)
    icon = Image.new("RGBA", (9, 7), (0, 0, 0, 0))
    icon.putpixel((3, 3), (0, 0, 0, 255))
    icon.save(folder / "train" / "ant" / "0.png")
    with monkeypatch.context() as earlier:
        # Whose digest is kept by its files' times.
        earlier.setattr("marginbench.data.files.content.VERSION", b"")
        earlier.setattr("marginbench.data.files.content.is_transparent", lambda file: False)
        assert content_key(folder) == earlier_content(folder)
    assert content_key(folder) != earlier_content(folder)
    image = load_data("folder", {"name": "mine"}).train_images[0]
    assert image[:, 3, 3].tolist() == [0, 0, 0]
    assert image.sum() == 255 * 3 * (9 * 7 - 1)


@pytest.mark.parametrize(
    ("fit", "column"),
    [("squash", [255] * 4), ("crop", [255] * 4), ("pad", [0, 255, 255, 0])],
)
def test_other_shapes_become_square_as_asked(fit, column):
    # Twice as wide as high: white, with a black edge on the left that is an eighth of it.
    pixels = np.full((1, 8, 16), 255, dtype=np.uint8)
    pixels[:, :, :2] = 0
    found = preprocess("one", pixels, Preprocessing(4, "grey", fit=fit))[0]
    assert found[:, 2].tolist() == column
    assert (found[1, 0] < 255) == (fit != "crop")


def test_a_fit_is_a_parameter_that_keeps_keys(write_folder):
    write_folder()
    sizes = {"name": "mine", "size": 4}
    plain = resolve_data_parameters("folder", sizes)
    assert plain["fit"] == "squash"
    found = [load_data("folder", {**sizes, "fit": fit}).train_images for fit in ("squash", "crop")]
    assert not torch.equal(*found)
    with pytest.raises(UserError, match="fit = 'crop' is not allowed without a size"):
        load_data("folder", {"name": "mine", "fit": "crop"})


def test_a_square_image_is_the_same_whatever_the_fit():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6), dtype=np.uint8)
    results = [
        preprocess("one", pixels, Preprocessing(4, "rgb", fit=fit))
        for fit in ("squash", "crop", "pad")
    ]
    assert all(np.array_equal(results[0], one) for one in results[1:])
