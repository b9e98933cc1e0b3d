"""Decoded images on disk: once for all processes, under a key that says what they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from marginbench.data.choices.splits import ImageSets
from marginbench.data.files.places import cache_folder
from marginbench.data.formats.archives import DamagedArchive
from marginbench.data.formats.array_archives import read_arrays
from marginbench.files import write_atomically

FORMAT = 1
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def decoded_file(what: dict[str, Any], suffix: str) -> Path:
    """Where the decoded arrays of a description are kept.

    Another version of Pillow may decode to other pixels, and so keeps its own.

    Args:
        what: everything that decides the arrays; plain values.
        suffix: of the file.
    """
    text = json.dumps({"pillow": PIL.__version__, **what}, sort_keys=True)
    return cache_folder() / "decoded" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}{suffix}"


def decoded_once(what: dict[str, Any], decode: Callable[[], ImageSets]) -> ImageSets:
    """The image sets of that description: from the cache, or decoded and put there.

    Processes that start at once may decode at once; each writes a whole file or none, and all
    of them the same one. A file that does not read well is made again. Where the cache cannot be
    written, decoding works all the same.

    Args:
        what: everything that decides the arrays; plain values, the content's hash among them.
        decode: makes them.
    """
    path = decoded_file({"format": FORMAT, **what}, ".npz")
    with contextlib.suppress(OSError, DamagedArchive):
        arrays = read_arrays(path, (*ARRAYS, "class_names"))
        names = tuple(str(name) for name in arrays.pop("class_names"))
        return ImageSets(**arrays, class_names=names)
    sets = decode()
    arrays = {name: getattr(sets, name) for name in ARRAYS}
    arrays["class_names"] = np.array(sets.class_names)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: np.savez(file, **arrays))
    return sets
