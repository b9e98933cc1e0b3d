"""The runs of Lake et al.'s one-shot classification task, as they were published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from marginbench.data import OneShotRun, OneShotTask
from marginbench.data.formats.images import Preprocessing, decode_image
from marginbench.data.formats.reading import read_text, reading
from marginbench.errors import UserError

LABELS = "class_labels.txt"
WHERE = (".", "all_runs", "one-shot-classification")


def read_one_shot_runs(root: Path, size: int) -> OneShotTask | None:
    """The official files: runNN/class_labels.txt, a line "runNN/test/… runNN/training/…" each.

    A run has one drawing of each of 20 characters of one alphabet to learn from, and 20 drawings of
    another person to classify among these (Lake, Salakhutdinov and Tenenbaum, Science 2015,
    supplement, Section 6).

    Args:
        root: holds the folders runNN, or ``all_runs`` or ``one-shot-classification`` with them.
        size: of the images, which are grey.

    Returns:
        None where no run is there.

    Raises:
        UserError: a damaged file, or a line of another form.
    """
    lists = [
        path
        for where in WHERE
        for path in sorted((root / where).glob(f"run[0-9]*/{LABELS}"))
        if path.is_file()
    ]
    if not lists:
        return None
    images: list[np.ndarray] = []
    runs = [_run(path, size, images) for path in lists]
    return OneShotTask(torch.from_numpy(np.stack(images)), tuple(runs))


def _run(path: Path, size: int, images: list[np.ndarray]) -> OneShotRun:
    """One run; its images are appended to the others."""
    lines = read_text(path).splitlines()
    pairs = []
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2 or any(".." in Path(part).parts for part in parts):
            raise UserError(
                f"{str(path)!r}, line {number}: {line[:80]!r} is not allowed; allowed: "
                "runNN/test/FILE.png runNN/training/FILE.png"
            )
        pairs.append((parts[0], parts[1]))
    known = sorted({name for _, name in pairs})
    if len(known) < 2:
        raise UserError(f"{str(path)!r} names {len(known)} classes; allowed: 2 or more")
    start = len(images)
    preprocessing = Preprocessing(size, "grey")
    for name in [*known, *(test for test, _ in pairs)]:
        file = path.parent.parent / name
        with reading(file):
            images.append(decode_image(repr(str(file)), file, preprocessing))
    return OneShotRun(
        name=path.parent.name,
        known=torch.arange(start, start + len(known)),
        tested=torch.arange(start + len(known), len(images)),
        answers=torch.tensor([known.index(name) for _, name in pairs]),
    )
