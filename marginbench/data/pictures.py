"""Image files and arrays to uint8 arrays of one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from marginbench.errors import UserError

Colour = Literal["grey", "rgb"]
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


def read_pictures(
    owner: str, files: Sequence[Path], size: int | None, colour: Colour
) -> np.ndarray:
    """Image files as (N, C, H, W), uint8; upright as their EXIF data says, transparency dropped.

    Args:
        owner: for messages.
        files: at least one.
        size: H = W = size; None for the files' own size, which then must be the same for all.
        colour: "grey" for C = 1, "rgb" for C = 3.

    Raises:
        UserError: a file that is damaged or has more than 8 bits a channel, or sizes that differ.
    """
    images: np.ndarray | None = None
    for position, path in enumerate(files):
        try:
            with Image.open(path) as opened:
                if opened.mode not in EIGHT_BITS:
                    raise UserError(
                        f"{owner}: {str(path)!r} is of mode {opened.mode!r}; allowed: images of "
                        "8 bits a channel"
                    )
                picture = ImageOps.exif_transpose(opened).convert(
                    "L" if colour == "grey" else "RGB"
                )
                array = _resized(picture, size)
        except UserError:
            raise
        except Exception as error:
            # Decoders raise nearly anything at a damaged file.
            raise UserError(f"{owner}: {str(path)!r} cannot be decoded: {error}") from error
        if images is None:
            images = np.empty((len(files), *array.shape), dtype=np.uint8)
        if array.shape != images.shape[1:]:
            raise UserError(
                f"{owner}: {str(path)!r} is {array.shape[2]}×{array.shape[1]} pixels and "
                f"{str(files[0])!r} is {images.shape[3]}×{images.shape[2]}; give size = N to "
                "resize all images to N×N"
            )
        images[position] = array
    if images is None:
        raise UserError(f"{owner}: there is no image")
    return images


def resize_arrays(images: np.ndarray, size: int) -> np.ndarray:
    """(N, C, H, W) → (N, C, size, size), uint8; as :func:`read_pictures` resizes files."""
    out = np.empty((*images.shape[:2], size, size), dtype=np.uint8)
    for position, image in enumerate(images):
        array = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        out[position] = _resized(Image.fromarray(array), size)
    return out


def _resized(picture: Image.Image, size: int | None) -> np.ndarray:
    """(C, H, W). Bilinear over the area that a pixel covers, so that shrinking does not alias."""
    if size is not None and picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
