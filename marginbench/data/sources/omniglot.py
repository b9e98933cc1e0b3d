"""Omniglot: handwritten characters of many alphabets, from the official folders of PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from marginbench.data import ImageData, data_source
from marginbench.data.choices.class_pairs import pairs_of_classes
from marginbench.data.choices.splits import HELD_OUT_CLASSES, Draw
from marginbench.data.files.array_cache import decoded_images
from marginbench.data.files.content import content_key
from marginbench.data.files.downloads import DOWNLOADS, fetch
from marginbench.data.files.image_folders import image_files, unread_files
from marginbench.data.files.paths import data_root
from marginbench.data.formats.images import Preprocessing, decode_image
from marginbench.data.formats.one_shot_runs import read_one_shot_runs
from marginbench.errors import UserError
from marginbench.plugins.parameters import AddedLater

BACKGROUND, EVALUATION = "images_background", "images_evaluation"
MINIMAL = ("images_background_small1", "images_background_small2")
TESTED_OF_MINIMAL = 3


@data_source(
    "omniglot",
    content=lambda: _content(),
    unread=lambda values: " ".join(map(unread_files, _folders(values["sets"]))).strip(),
)
def omniglot(
    *,
    sets: Literal["official", "minimal"] = "official",
    size: Annotated[int, Field(ge=28, le=105)] = 28,
    tested: tuple[str, ...] = (),
    validation: Annotated[Literal["none", "classes"], AddedLater("none")] = "none",
    validation_draw: Annotated[Draw, AddedLater(0)] = 0,
) -> ImageData:
    """Omniglot: 1,623 characters of 50 alphabets, 20 drawings of each (Lake et al., Science 2015).

    From ``DATA/omniglot-py`` (where torchvision puts it) or ``DATA/omniglot``: the folders
    ``images_background`` and ``images_evaluation``, downloaded if they are not there, or the
    "minimal" ``images_background_small1`` and ``…_small2``. A character is a class. Whole alphabets
    are trained on or tested, so that nothing of a tested character's script has been seen. There is
    no test set of the trained characters: what is tested is verification and retrieval on the
    others, and Lake et al.'s 20-way one-shot task where its folders run01 to run20 are there too
    (from ``all_runs.zip``, beside the others or in ``all_runs`` or ``one-shot-classification``).

    Args:
        sets: "official": trained on the background set's 30 alphabets, tested on the evaluation
            set's 20. "minimal": on the alphabets of the small sets, at least one of which is there.
        size: every image is resized from 105×105 to size×size, grey.
        tested: the alphabets that are tested, by their folders' names; none for the evaluation
            set's, and with "minimal" for the last three in alphabetical order. With an alphabet of
            the evaluation set trained on there is no one-shot task, which consists of these.
        validation: "classes": nothing that is tested is there; a quarter of the alphabets trained
            on, one or more, take its place.
        validation_draw: which of them.

    Raises:
        UserError: files that are missing or damaged, an alphabet that is not there, or none left.
    """
    folders = _folders(sets)
    files = _characters(folders)
    alphabets = sorted({_alphabet(name) for name, _, _ in files})
    of_evaluation = {_alphabet(name) for name, _, path in files if path.name == EVALUATION}
    chosen = tested or tuple(sorted(of_evaluation) or alphabets[-TESTED_OF_MINIMAL:])
    unknown = [name for name in chosen if name not in alphabets]
    if unknown or set(chosen) >= set(alphabets):
        raise UserError(
            f"tested = {list(chosen)} is not allowed; allowed: some of, not all of "
            f"{', '.join(alphabets)}"
        )
    if validation == "classes":
        files = [one for one in files if _alphabet(one[0]) not in chosen]
        chosen = _held_out([name for name in alphabets if name not in chosen], validation_draw)
    names = sorted({name for name, _, _ in files})
    number_of = {name: number for number, name in enumerate(names)}
    labels = np.array([number_of[name] for name, _, _ in files])
    used = [folder for folder in folders if any(own == folder for _, _, own in files)]
    images = np.concatenate([_decoded(folder, files, size) for folder in used])
    is_tested = [_alphabet(name) in chosen for name in names]
    left_out = np.flatnonzero(is_tested)
    trained = ~np.isin(labels, left_out)
    kept = np.cumsum(~np.array(is_tested)) - 1
    has_task = validation == "none" and of_evaluation <= set(chosen)
    return ImageData(
        train_images=torch.from_numpy(images[trained]),
        train_labels=torch.from_numpy(kept[labels[trained]]),
        test_images=torch.from_numpy(images[:0]),
        test_labels=torch.zeros(0, dtype=torch.int64),
        class_names=tuple(n for n, out in zip(names, is_tested, strict=True) if not out),
        verification=(pairs_of_classes(images, labels, left_out.tolist(), names),),
        one_shot=read_one_shot_runs(folders[0].parent, size) if has_task else None,
        remarks=(f"tested on the alphabets {', '.join(sorted(chosen))}",),
    )


def _alphabet(character: str) -> str:
    return character.partition("/")[0]


def _held_out(trained: list[str], draw: int) -> tuple[str, ...]:
    """A quarter of the alphabets, one or more.

    Raises:
        UserError: there is one only.
    """
    if len(trained) < 2:
        raise UserError(
            f"validation = 'classes' is not allowed with {len(trained)} alphabet to train on; "
            "allowed: 'none'"
        )
    order = np.random.default_rng([6, draw]).permutation(len(trained))
    return tuple(trained[n] for n in order[: max(1, round(HELD_OUT_CLASSES * len(trained)))])


def _root() -> list[Path]:
    """The folders in which the sets may be, those that are there."""
    names = (DOWNLOADS["Omniglot"].folder, "omniglot")
    return [data_root() / name for name in names if (data_root() / name).is_dir()]


def _content() -> str:
    found = [root for root in _root() if any(root.iterdir())]
    return content_key(found[0]) if found else ""


def _folders(sets: str) -> list[Path]:
    if sets == "minimal":
        found = [root / name for root in _root() for name in MINIMAL if (root / name).is_dir()]
        if not found:
            raise UserError(
                f"neither {MINIMAL[0]!r} nor {MINIMAL[1]!r} is in "
                f"{str(data_root() / 'omniglot')!r} or 'omniglot-py' beside it; "
                "put the official folders there, or take sets = 'official', which is fetched"
            )
        return found
    for root in _root():
        if all((root / name).is_dir() for name in (BACKGROUND, EVALUATION)):
            return [root / BACKGROUND, root / EVALUATION]
    root = fetch("Omniglot", (BACKGROUND, EVALUATION))
    return [root / BACKGROUND, root / EVALUATION]


def _characters(folders: list[Path]) -> list[tuple[str, Path, Path]]:
    """(ALPHABET/characterNN, file, folder) of every drawing, in order; the small sets share some.

    Raises:
        UserError: an image that lies elsewhere than in a character's folder.
    """
    found: dict[tuple[str, str], tuple[str, Path, Path]] = {}
    for folder in folders:
        for file in image_files(folder):
            parts = file.relative_to(folder).parts
            if len(parts) != 3:
                raise UserError(
                    f"{str(file)!r} is not in a character's folder; allowed: "
                    f"{folder.name}/ALPHABET/characterNN/FILE.png"
                )
            name = f"{parts[0]}/{parts[1]}"
            found.setdefault((name, parts[2]), (name, file, folder))
    return list(found.values())


def _decoded(folder: Path, files: list[tuple[str, Path, Path]], size: int) -> np.ndarray:
    """(N, 1, size, size), uint8, of those of the files that lie in the folder."""
    own = [file for _, file, of in files if of == folder]
    content = content_key(folder)
    preprocessing = Preprocessing(size, "grey")
    names = [file.relative_to(folder).as_posix() for file in own]
    return decoded_images(
        {"source": "omniglot", "content": content, "size": size, "files": names},
        own,
        preprocessing.shape,
        lambda file: decode_image(repr(str(file)), file, preprocessing),
        [(folder, content)],
    )
