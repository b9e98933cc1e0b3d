"""Features of a user's images by a finished cell's model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from marginbench.data.files.image_folders import image_files
from marginbench.data.formats.images import Preprocessing, decode_image
from marginbench.errors import UserError, each
from marginbench.files import output_file
from marginbench.training.trained import load_trained

BATCH = 256


def embed(
    run_folder: str | Path,
    images: Sequence[str | Path],
    to: str | Path,
    *,
    plugins: Sequence[str | Path] = (),
) -> int:
    """Write the features of images as an npz file.

    Every image is resized to the size that the cell was trained on, grey or in colour as its images
    are. The file has ``features`` (N, D), float32, and ``files`` (N,), the paths as given; of a
    folder all image files below it.

    Args:
        run_folder: ``RUNS/SUITE/CELL-KEY``.
        images: files and folders.
        to: the file; one that is there is replaced.
        plugins: see :func:`marginbench.training.trained.load_trained`.

    Returns:
        N.

    Raises:
        UserError: an image that is missing or damaged, a file of another kind, a cell trained on
            images that are not square, or as :func:`load_trained`.
    """
    path = Path(to)
    if path.suffix != ".npz":
        raise UserError(f"--to {str(path)!r} is not allowed; allowed: a file that ends in .npz")
    files = _files(images)
    backbone, _ = load_trained(run_folder, plugins=plugins)
    channels, height, width = backbone.mean_image.shape
    if height != width:
        raise UserError(
            f"the cell of {str(run_folder)!r} was trained on images of {width}×{height}; allowed: "
            "square ones"
        )
    preprocessing = Preprocessing(height, "grey" if channels == 1 else "rgb")
    parts = []
    for start in range(0, len(files), BATCH):
        chosen = files[start : start + BATCH]
        decoded = each(
            lambda file: decode_image(repr(str(file)), file, preprocessing), chosen, "images"
        )
        with torch.no_grad():
            parts.append(backbone(torch.from_numpy(np.stack(decoded))).numpy())
    arrays = {"features": np.concatenate(parts), "files": np.array([str(file) for file in files])}
    with output_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return len(files)


def _files(images: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for one in map(Path, images):
        if not one.exists():
            raise UserError(f"{str(one)!r} does not exist; allowed: image files and folders")
        found += image_files(one) if one.is_dir() else [one]
    return found
