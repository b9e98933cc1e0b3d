"""Image files and arrays to uint8 arrays of one size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from marginbench.errors import UserError

Colour = Literal["grey", "rgb"]
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""All that is decoded, whatever a file calls itself: Pillow hands some others to programs."""

MOST_PIXELS = 89_478_485
"""Of one image, a quarter of a gigabyte in colour: where Pillow warns of a decompression bomb."""

EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")

# Refused here, so there is nothing to warn of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode_picture(
    where: str,
    source: Path | BinaryIO,
    *,
    size: int | None,
    colour: Colour,
    crop: int | None = None,
) -> np.ndarray:
    """One encoded image as (C, H, W), uint8; upright as its EXIF data says, transparency dropped.

    Args:
        where: the image's name, for messages.
        source: a file's path, or an open binary file.
        size: H = W = size; None for the image's own size.
        colour: "grey" for C = 1, "rgb" for C = 3.
        crop: first cut to the central crop×crop pixels, rounded towards the upper left; None for
            the whole image.

    Raises:
        UserError: damaged or of another format than :data:`FORMATS`, more than
            :data:`MOST_PIXELS` or 8 bits a channel, or smaller than the crop.
    """
    try:
        with Image.open(source, formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise UserError(
                    f"{where} is {width}×{height} pixels; allowed: up to {MOST_PIXELS:,} pixels"
                )
            if opened.mode not in EIGHT_BITS:
                raise UserError(
                    f"{where} is of mode {opened.mode!r}; allowed: images of 8 bits a channel"
                )
            picture = ImageOps.exif_transpose(opened).convert("L" if colour == "grey" else "RGB")
            return _resized(_cropped(where, picture, crop), size)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(
            f"{where} cannot be decoded: it is damaged or of another format than is read; "
            f"allowed: {', '.join(FORMATS)}"
        ) from None
    except Exception as error:
        # Decoders raise nearly anything at a damaged file.
        raise UserError(f"{where} cannot be decoded: {error}") from error


def crop_and_resize(
    where: str, image: np.ndarray, *, size: int, colour: Colour, crop: int | None
) -> np.ndarray:
    """(C, H, W), uint8 → (C', size, size), as :func:`decode_picture` treats encoded images.

    Args:
        where: the image's name, for messages.
        image: C = 1 or 3.
        size, colour, crop: see :func:`decode_picture`.

    Raises:
        UserError: the image is smaller than the crop.
    """
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    picture = picture.convert("L" if colour == "grey" else "RGB")
    return _resized(_cropped(where, picture, crop), size)


def _cropped(where: str, picture: Image.Image, crop: int | None) -> Image.Image:
    if crop is None:
        return picture
    width, height = picture.size
    if crop > min(width, height):
        raise UserError(
            f"{where} is {width}×{height} pixels, too small for a crop of {crop}; allowed: up to "
            f"{min(width, height)}, or None for the whole image"
        )
    left, top = (width - crop) // 2, (height - crop) // 2
    return picture.crop((left, top, left + crop, top + crop))


def _resized(picture: Image.Image, size: int | None) -> np.ndarray:
    """(C, H, W). Bilinear over the area that a pixel covers, so that shrinking does not alias."""
    if size is not None and picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
