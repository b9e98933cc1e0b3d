"""Verification sets as ``.bin`` files: lfw, cfp_fp, agedb_30, calfw, cplfw as insightface has them.

Such a file is a pickle of two lists: encoded images, two a pair, and a boolean a pair.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from marginbench.data import VerificationPairs
from marginbench.data.files.array_cache import decoded_images
from marginbench.data.files.content import check_content
from marginbench.data.formats.images import Preprocessing, decode_image
from marginbench.data.formats.pickled_arrays import PickledArray, read_pickle_file
from marginbench.errors import UserError

FOLDS = 10
# The sets in use have 12,000 to 14,000. A pickle can name one image again and again at two bytes
# a time, so that the file's size alone is no bound.
MOST_IMAGES = 200_000


@dataclass(frozen=True)
class EncodedPairs:
    """What a ``.bin`` file holds.

    Attributes:
        images: encoded (JPEG or PNG), the two of a pair side by side.
        same: one a pair.
    """

    images: list[bytes]
    same: list[bool]


def read_bin(path: Path) -> EncodedPairs:
    """A ``.bin`` file; nothing in it is run, whatever it asks for.

    Args:
        path: the file.

    Raises:
        UserError: it cannot be read, is refused or damaged, or does not hold two such lists.
    """
    where = repr(str(path))
    value = read_pickle_file(path)
    wanted = "allowed: two lists, of encoded images (two a pair) and of booleans (one a pair)"
    if type(value) not in (list, tuple) or len(value) != 2:
        raise UserError(f"{where} is no verification set; {wanted}")
    images, same = value
    if type(same) is PickledArray and len(same.shape) == 1:
        same = same.values().tolist()
    if type(images) not in (list, tuple) or type(same) not in (list, tuple):
        raise UserError(f"{where} is no verification set; {wanted}")
    if len(images) > MOST_IMAGES:
        raise UserError(f"{where} names {len(images)} images; allowed: up to {MOST_IMAGES}")
    encoded = []
    for number, image in enumerate(images):
        if type(image) is PickledArray and image.shape in ((image.size,), (image.size, 1)):
            # OpenCV's encoded images used to be (N, 1).
            image = image.content
        if type(image) is not bytes:
            kind = type(image).__name__
            if type(image) is PickledArray:
                kind = f"array of the shape {image.shape}"
            raise UserError(f"{where}: image {number} is of type {kind}; {wanted}")
        encoded.append(image)
    wrong = [
        k
        for k, answer in enumerate(same)
        if type(answer) not in (bool, int) or answer not in (0, 1)
    ]
    if wrong:
        kind = type(same[wrong[0]]).__name__
        raise UserError(
            f"{where}: {len(wrong)} answers are wrong, the first of them answer {wrong[0]}, of "
            f"type {kind}; {wanted}"
        )
    if len(images) != 2 * len(same):
        raise UserError(f"{where} has {len(images)} images and {len(same)} pairs; {wanted}")
    if len(same) < FOLDS:
        raise UserError(f"{where} has {len(same)} pairs; allowed: {FOLDS} or more, one a fold")
    return EncodedPairs(encoded, [bool(answer) for answer in same])


def verification_bin(path: Path, content: str, preprocessing: Preprocessing) -> VerificationPairs:
    """A ``.bin`` file's pairs, in ten folds of consecutive pairs as its authors test them.

    Whose images they are is not in the file. Decoded once, then kept in the cache folder.

    Args:
        path: the file; its name without the suffix is the set's.
        content: the file's hash.
        preprocessing: of its images.

    Raises:
        UserError: see :func:`read_bin`; or a file that has changed, or an image that does not
            decode.
    """
    encoded = read_bin(path)
    # It may have changed since it was hashed.
    check_content(path, content)

    def decode(number: int) -> np.ndarray:
        where = f"{str(path)!r}: image {number}"
        return decode_image(where, io.BytesIO(encoded.images[number]), preprocessing)

    images = decoded_images(
        {"source": "bin", "content": content, **asdict(preprocessing)},
        range(len(encoded.images)),
        preprocessing.shape,
        decode,
    )
    pairs = len(encoded.same)
    folds = np.array_split(np.arange(pairs), FOLDS)
    return VerificationPairs(
        name=path.stem,
        images=torch.from_numpy(images),
        first=torch.arange(0, 2 * pairs, 2),
        second=torch.arange(1, 2 * pairs, 2),
        same=torch.tensor(encoded.same),
        fold=torch.repeat_interleave(torch.tensor([len(fold) for fold in folds])),
        description=(
            f"{path.stem}: {pairs} pairs of the file {path.name} in {FOLDS} folds of consecutive "
            "pairs; whose images they are is not known"
        ),
    )
