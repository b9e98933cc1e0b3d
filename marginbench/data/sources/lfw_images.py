"""LFW's images as its archives unpack, decoded once for all folds, protocols and heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from marginbench.data import VerificationPairs
from marginbench.data.choices.lfw_protocol import ImageId, Pair
from marginbench.data.files.array_cache import decoded_images
from marginbench.data.files.image_folders import image_files, unread_files
from marginbench.data.formats.images import Preprocessing, decode_image
from marginbench.errors import UserError, each

ImageFolder = Literal["lfw", "lfw_funneled", "lfw-funneled", "lfw-deepfunneled"]
"""What the archives of the original, the funneled and the deep-funneled images unpack to."""

IMAGE_FOLDERS: tuple[str, ...] = get_args(ImageFolder)


def find_image_folder(folder: Path, wanted: str | None = None, *, can_choose: bool = False) -> Path:
    """The folder of images beside the protocol files.

    Args:
        folder: the folder of the protocol files.
        wanted: its name, the parameter ``images``; None where there is only one of
            :data:`IMAGE_FOLDERS`.
        can_choose: whether the owner has that parameter, for messages.

    Raises:
        UserError: it is not there, or there are several to choose from.
    """
    there = [name for name in IMAGE_FOLDERS if (folder / name).is_dir()]
    if wanted is not None:
        if wanted not in there:
            raise UserError(
                f"images = {wanted!r} is not allowed, as {str(folder)!r} has "
                f"{', '.join(there) or 'no folder of images'}"
            )
        return folder / wanted
    if not there:
        raise UserError(
            f"{str(folder)!r} has no folder of images; it must hold one of "
            f"{', '.join(IMAGE_FOLDERS)}, as the archive unpacks: NAME/NAME_0001.jpg"
        )
    if len(there) > 1:
        choice = f"say which (images = {there[-1]!r}), or " if can_choose else ""
        raise UserError(
            f"{str(folder)!r} has several folders of images: {', '.join(there)}; "
            f"{choice}leave only one of them there"
        )
    return folder / there[0]


@dataclass(frozen=True)
class LfwImages:
    """All images of a folder NAME/NAME_0001.jpg.

    Attributes:
        folder: where they are.
        images: (M, C, H, W), uint8, mapped from the cache.
        rows: each image's index in it, by :attr:`ImageId.key`.
    """

    folder: Path
    images: np.ndarray
    rows: Mapping[str, int]

    def row(self, image: ImageId, where: str) -> int:
        """An image's index.

        Args:
            image: which.
            where: what names it, for messages.

        Raises:
            UserError: there is no such file.
        """
        found = self.rows.get(image.key)
        if found is None:
            missing = self.folder / f"{image.key}.jpg"
            raise UserError(f"{where} names an image that does not exist: {str(missing)!r}")
        return found

    def pairs(
        self,
        folds: Mapping[int, Iterable[Pair]],
        *,
        name: str,
        description: str,
        tested_folds: tuple[int, ...] | None,
    ) -> VerificationPairs:
        """Pairs of these images, with the images that they are of and no others.

        Args:
            folds: the pairs of each fold.
            name, description, tested_folds: see :class:`VerificationPairs`.

        Raises:
            UserError: an image is missing.
        """
        all_pairs = [(number, pair) for number, pairs in folds.items() for pair in pairs]
        named: dict[ImageId, str] = {}
        for _, pair in all_pairs:
            for image in (pair.first, pair.second):
                named.setdefault(image, pair.where)
        rows = each(lambda entry: self.row(*entry), named.items(), "images")
        images = {image: position for position, image in enumerate(named)}
        people = {person: k for k, person in enumerate(sorted({p.person for p in images}))}
        return VerificationPairs(
            name=name,
            images=torch.from_numpy(self.images[rows]),
            first=torch.tensor([images[pair.first] for _, pair in all_pairs]),
            second=torch.tensor([images[pair.second] for _, pair in all_pairs]),
            same=torch.tensor([pair.same for _, pair in all_pairs]),
            fold=torch.tensor([number for number, _ in all_pairs]),
            description=description,
            tested_folds=tested_folds,
            people=torch.tensor([people[image.person] for image in images]),
            image_names=tuple(image.name for image in images),
        )


@dataclass(frozen=True)
class ProtocolCell:
    """Who is trained on and what is verified, by a protocol of LFW's.

    Attributes:
        people: to train on, with their numbers of images.
        folds: the pairs of each fold.
        tested_fold: the one that is tested; the others choose the threshold.
        description, remark: for the report.
    """

    people: dict[str, int]
    folds: Mapping[int, Sequence[Pair]]
    tested_fold: int
    description: str
    remark: str

    def tested_on(self, pairs: Sequence[Pair], people: int) -> ProtocolCell:
        """The same, tested on pairs of people who are held out of training instead."""
        told = f"{people} of the people trained on are held out, and their pairs are verified."
        return replace(
            self,
            folds={**self.folds, self.tested_fold: pairs},
            description=f"pairs of {people} people held out of training",
            remark=f"{self.remark} Validation: {told}",
        )

    def of_images(self, store: LfwImages) -> VerificationPairs:
        """The pairs, with their images."""
        return store.pairs(
            self.folds,
            name="lfw",
            description=self.description,
            tested_folds=(self.tested_fold,),
        )


def unread_lfw(folder: Path) -> str:
    """:func:`unread_files` of a folder of images."""
    return unread_files(folder, lambda parts: _is_image(Path(*parts)))


def _is_image(path: Path) -> bool:
    """Whether it is NAME/NAME_0001.jpg, in the folder of images."""
    number = path.stem.removeprefix(f"{path.parent.name}_")
    return len(path.parts) == 2 and len(number) == 4 and number.isdecimal()


def read_lfw_images(folder: Path, content: str, preprocessing: Preprocessing) -> LfwImages:
    """All images of a folder, decoded once: one cache whatever protocol and fold.

    Args:
        folder: NAME/NAME_0001.jpg (or another suffix of images); other files are passed over.
        content: the folder's hash.
        preprocessing: of the images.

    Raises:
        UserError: no image, one twice, one that does not decode, or files that change meanwhile.
    """
    files: dict[str, Path] = {}
    for file in image_files(folder):
        if not _is_image(file.relative_to(folder)):
            continue
        key = f"{file.parent.name}/{file.stem}"
        if key in files:
            raise UserError(f"{str(file)!r} and {str(files[key])!r} are one image twice")
        files[key] = file
    if not files:
        raise UserError(f"{str(folder)!r} has no image like NAME/NAME_0001.jpg")
    images = decoded_images(
        {"source": "lfw", "content": content, **asdict(preprocessing)},
        list(files.values()),
        preprocessing.shape,
        lambda path: decode_image(repr(str(path)), path, preprocessing),
        [(folder, content)],
    )
    return LfwImages(folder, images, {key: row for row, key in enumerate(files)})
