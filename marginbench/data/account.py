"""What a data set has: images by split and class, and those that are where they should not be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from marginbench.data.image_data import ImageData
from marginbench.text import count


def account(data: ImageData) -> Iterator[str]:
    """Sentences on a data set: its images, and those in two splits or under two labels.

    Two images are one if their pixels are equal, whatever their files.
    """
    names, tests = data.class_names, {"test images": data.test_images}
    yield _split("training", data.train_labels, names)
    if len(data.test_labels):
        yield _split("test", data.test_labels, names)
        none = np.flatnonzero(np.bincount(data.test_labels, minlength=len(names)) == 0)
        if len(none):
            yield f"{len(none):,} classes without a test image (the first: {names[none[0]]!r})."
    tests |= {f"images of {pairs.name}": pairs.images for pairs in data.verification}
    if data.one_shot is not None:
        tests["images of the one-shot task"] = data.one_shot.images
    labels: dict[bytes, set[int]] = {}
    for digest, label in zip(_digests(data.train_images), data.train_labels.tolist(), strict=True):
        labels.setdefault(digest, set()).add(label)
    digests = {name: list(_digests(images)) for name, images in tests.items()}
    for name, own in digests.items():
        both = [digest for digest in own if digest in labels]
        if both:
            example = _example(data, both[0], labels)
            yield f"{len(both):,} of {len(own):,} {name} are trained on too ({example})."
    for digest, label in zip(digests["test images"], data.test_labels.tolist(), strict=True):
        labels.setdefault(digest, set()).add(label)
    several = [digest for digest, of in labels.items() if len(of) > 1]
    if several:
        what = count(len(several), "image")
        yield f"{what} under two labels or more ({_example(data, several[0], labels)})."


def _split(split: str, labels: Tensor, names: tuple[str, ...]) -> str:
    counts = np.bincount(labels, minlength=len(names))
    few, most = int(counts.argmin()), int(counts.argmax())
    each = f"{counts[few]:,} each"
    if counts[few] < counts[most]:
        each = f"{counts[few]:,} ({names[few]!r}) to {counts[most]:,} ({names[most]!r}) each"
    return f"{count(len(labels), f'{split} image')} of {len(names):,} classes, {each}."


def _example(data: ImageData, digest: bytes, labels: Mapping[bytes, set[int]]) -> str:
    """The files of an image if the source has files, else its classes."""
    if data.named is None:
        classes = [repr(data.class_names[label]) for label in sorted(labels[digest])]
        return f"the first: of {' and '.join(classes)}"
    images, files = data.named
    alike = [n for n, one in enumerate(_digests(torch.from_numpy(images))) if one == digest]
    return f"the first: {' = '.join(repr(files[n]) for n in alike[:3])}"


def _digests(images: Tensor) -> Iterator[bytes]:
    # Image by image: of a mapped file no more is in memory.
    for image in images.numpy():
        yield hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
