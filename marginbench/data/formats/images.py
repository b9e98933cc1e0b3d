"""Image files and arrays to uint8 arrays of one size."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from marginbench.errors import UserError
from marginbench.files import open_regular

Colour = Literal["grey", "rgb"]
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""All that is decoded, whatever a file calls itself: Pillow hands some others to programs."""

MOST_PIXELS = 89_478_485
"""Of one image, a quarter of a gigabyte in colour: where Pillow warns of a decompression bomb."""

EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")

Fit = Literal["squash", "crop", "pad"]
"""How an image of another shape becomes square. "squash": width and height each by a factor of its
own. "crop": the largest square in the middle. "pad": whole, with black bars."""

# Refused here, so there is nothing to warn of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_decoding = threading.local()


@contextlib.contextmanager
def named_warnings() -> Iterator[None]:
    """A block that decodes images, in threads or not; warnings in it get the images' names."""
    first: dict[str, list[str]] = {}

    shown = warnings.showwarning

    def keep(message: Warning | str, *about: Any) -> None:
        if where := getattr(_decoding, "where", ""):
            first.setdefault(str(message), []).append(where)
        else:
            shown(message, *about)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"PIL\b")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        warnings.showwarning = keep  # type: ignore[assignment]
        yield
    for text, names in first.items():
        more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
        warnings.warn(f"{min(names)}{more}: {text}", stacklevel=2)


def is_transparent(file: BinaryIO) -> bool:
    """Whether an encoded image has an alpha channel or a transparent colour; nothing is decoded."""
    # JPEG has none, and is what large sets are of.
    if file.read(2) == b"\xff\xd8":
        return False
    # Whatever is damaged is refused once it is decoded.
    with (
        contextlib.suppress(Exception),
        warnings.catch_warnings(action="ignore"),
        Image.open(file, formats=FORMATS) as opened,
    ):
        return opened.has_transparency_data
    return False


@dataclass(frozen=True)
class Preprocessing:
    """How images are made alike.

    Attributes:
        size: H = W = size; None for an image's own size.
        colour: "grey" for C = 1, "rgb" for C = 3.
        crop: first cut to the central crop×crop pixels, rounded towards the upper left; None for
            the whole image.
        fit: what then becomes of an image that is not square.
    """

    size: int | None
    colour: Colour
    crop: int | None = None
    fit: Fit = "squash"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W), where there is a size."""
        assert self.size is not None
        return (1 if self.colour == "grey" else 3, self.size, self.size)


def decode_image(where: str, source: Path | BinaryIO, preprocessing: Preprocessing) -> np.ndarray:
    """One encoded image as (C, H, W), uint8; upright as its EXIF data says, on white.

    Of an animation or of several pages it is the first.

    Args:
        where: the image's name, for messages.
        source: a file's path, or an open binary file.
        preprocessing: what is done to it.

    Raises:
        UserError: damaged or of another format than :data:`FORMATS`, more than
            :data:`MOST_PIXELS` or 8 bits a channel, or smaller than the crop.
    """
    _decoding.where = where
    try:
        with (
            open_regular(source)
            if isinstance(source, Path)
            else contextlib.nullcontext(source) as file,
            Image.open(file, formats=FORMATS) as opened,
        ):
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise UserError(
                    f"{where} is {width}×{height} pixels; allowed: up to {MOST_PIXELS:,} pixels"
                )
            if opened.mode not in EIGHT_BITS:
                raise UserError(
                    f"{where} is of mode {opened.mode!r}; allowed: images of 8 bits a channel"
                )
            return _preprocessed(where, ImageOps.exif_transpose(opened), preprocessing)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(
            f"{where} cannot be decoded: it is damaged or of another format than is read; "
            f"allowed: {', '.join(FORMATS)}"
        ) from None
    except Exception as error:
        # Decoders raise nearly anything at a damaged file.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where} cannot be decoded: {reason}") from error
    finally:
        _decoding.where = ""


def preprocess(where: str, image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """(C, H, W), uint8, C = 1 or 3 → (C', H', W'), as :func:`decode_image` treats encoded images.

    Raises:
        UserError: the image, which ``where`` names, is smaller than the crop.
    """
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    return _preprocessed(where, Image.fromarray(pixels), preprocessing)


def _preprocessed(where: str, image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    if image.has_transparency_data:
        # Opaque pixels come out as they were.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if preprocessing.colour == "grey" else "RGB")
    crop, size = preprocessing.crop, preprocessing.size
    if crop is not None:
        width, height = image.size
        if crop > min(width, height):
            raise UserError(
                f"{where} is {width}×{height} pixels, too small for a crop of {crop}; allowed: up "
                f"to {min(width, height)}, or None for the whole image"
            )
        left, top = (width - crop) // 2, (height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if size is not None and image.size != (size, size):
        # Bilinear over the area that a pixel covers, so that shrinking does not alias.
        resize: dict[Fit, Callable[..., Image.Image]] = {
            "squash": Image.Image.resize,
            "crop": ImageOps.fit,
            "pad": ImageOps.pad,
        }
        image = resize[preprocessing.fit](image, (size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
