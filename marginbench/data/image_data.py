"""What a data source loads: images, labels, pairs to verify, one-shot tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class VerificationPairs:
    """Pairs of images to compare: same class or not.

    The folds of a protocol: thresholds (and PCA) for a fold are fitted on all the other folds.
    Where only some folds are tested, the rest serve that choice alone.

    Attributes:
        name: short and unique in a data set: "lfw", "cfp_fp".
        images: (M, C, H, W), uint8.
        first, second: (P,), int64, indices into images.
        same: (P,), bool.
        fold: (P,), int64, 0…F−1.
        description: what is verified, for the report.
        tested_folds: those whose accuracy counts; None for all of them.
        people: (M,), int64, whose image each one is (a person, or a class), by numbers of this
            set alone: in another cell's set the same number is another one; None where that is
            not known.
        image_names: M names for the report ("Aaron_Peirsol 1"); empty where there are none.
        may_be_shown: whether a report may show the images; people's faces are not shown.
    """

    name: str
    images: Tensor
    first: Tensor
    second: Tensor
    same: Tensor
    fold: Tensor
    description: str
    tested_folds: tuple[int, ...] | None = None
    people: Tensor | None = None
    image_names: tuple[str, ...] = ()
    may_be_shown: bool = False


@dataclass(frozen=True)
class OneShotRun:
    """Some classes, each known by one image, and images to be classified among them.

    Attributes:
        name: of the run.
        known: (W,), int64, indices of the task's images, one a class.
        tested: (Q,), int64, indices of the task's images.
        answers: (Q,), int64, in [0, W): the class of each.
    """

    name: str
    known: Tensor
    tested: Tensor
    answers: Tensor


@dataclass(frozen=True)
class OneShotTask:
    """One-shot classification of classes that are not trained on.

    Attributes:
        images: (M, C, H, W), uint8.
        runs: one or more.
    """

    images: Tensor
    runs: tuple[OneShotRun, ...]


@dataclass(frozen=True)
class ImageData:
    """Images and labels, whole in memory.

    Attributes:
        train_images, test_images: (N, C, H, W), uint8; no test images (N = 0) where all that is
            tested is verification.
        train_labels, test_labels: (N,), int64, in [0, K).
        class_names: K names.
        verification: sets of pairs of classes not trained on.
        remarks: sentences for the report: what was left out, and by which list.
        one_shot: a task of classes not trained on, where there is one.
        named: images (M, C, H, W), uint8, and the file of each, for :mod:`marginbench.data.account`
            to name: all that the source has, trained on or not. None without files.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    verification: tuple[VerificationPairs, ...] = ()
    remarks: tuple[str, ...] = ()
    one_shot: OneShotTask | None = None
    named: tuple[np.ndarray, Sequence[str]] | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width
