"""Labeled Faces in the Wild, trained and tested on by its own protocols: no outside data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from marginbench.data import ImageData, data_source
from marginbench.data.choices.lfw_protocol import (
    ImageId,
    check_people,
    read_pairs,
    read_people,
)
from marginbench.data.choices.splits import Draw
from marginbench.data.choices.threshold_pairs import draw_threshold_pairs
from marginbench.data.choices.training_people import choose_people
from marginbench.data.choices.validation_people import PeopleValidation, hold_out_people
from marginbench.data.files.content import Part, check_contents, fill_in_content
from marginbench.data.files.paths import data_path
from marginbench.data.formats.images import Colour, Preprocessing
from marginbench.data.sources.lfw_images import (
    ImageFolder,
    LfwImages,
    ProtocolCell,
    find_image_folder,
    read_lfw_images,
    unread_lfw,
)
from marginbench.errors import UserError
from marginbench.plugins.parameters import AddedLater, PositiveInteger

Protocol = Literal["unrestricted", "view1"]
SetNumber = Annotated[int, Field(ge=1, le=10)]
SetCount = Annotated[int, Field(ge=1, le=8)]
Share = Annotated[float, Field(gt=0, lt=1)]
TwoOrMore = Annotated[int, Field(ge=2)]

SETS = 10
FILES = {
    "unrestricted": ("people.txt", "pairs.txt"),
    "view1": ("peopleDevTrain.txt", "peopleDevTest.txt", "pairsDevTest.txt"),
}


def _parts(values: Mapping[str, Any]) -> list[Part]:
    protocol = values["protocol"]
    folder = data_path(values["name"])
    missing = [file for file in FILES[protocol] if not (folder / file).is_file()]
    if missing:
        raise UserError(
            f"{str(folder)!r} lacks {', '.join(missing)}; protocol = {protocol!r} needs "
            f"LFW's own files {', '.join(FILES[protocol])} there, beside the folder of images"
        )
    files = [(file, folder / file) for file in FILES[protocol]]
    return [("images", find_image_folder(folder, values["images"], can_choose=True)), *files]


@data_source(
    "lfw",
    complete=fill_in_content(_parts),
    unread=lambda values: unread_lfw(dict(_parts(values))["images"]),
)
def lfw(
    *,
    name: str = "lfw",
    protocol: Protocol,
    tested_set: SetNumber | None = None,
    threshold_sets: SetCount = 1,
    threshold_share: Share = 0.1,
    images: ImageFolder | None = None,
    crop: PositiveInteger | None = 112,
    size: PositiveInteger = 64,
    colour: Colour = "rgb",
    minimum_images: PositiveInteger = 1,
    train_people: TwoOrMore | None = None,
    content: str = "",
    validation: Annotated[PeopleValidation, AddedLater("none")] = "none",
    validation_draw: Annotated[Draw, AddedLater(0)] = 0,
) -> ImageData:
    """LFW without outside data: trained on some of its people, tested on pairs of others.

    Thresholds (and PCA) are never chosen on people trained on, whose pairs a network finds far
    too easy: some people are kept out of training for that. There are no test images.

    Args:
        name: of the folder with LFW's protocol files and a folder of images, as the archive
            unpacks, original, funneled or deep-funneled; relative to the data folder.
        protocol: "unrestricted": one fold of view 2 (``people.txt``, ``pairs.txt``), tested on
            one of the ten sets and trained on the people of others; ten cells make a result.
            "view1": trained on the people of ``peopleDevTrain.txt``, tested on
            ``pairsDevTest.txt``; for choosing hyper-parameters.
        tested_set: of "unrestricted", and needed there: the set tested on. Fold number k − 1 is
            set k.
        threshold_sets: of "unrestricted": so many sets, those after the tested one (after 10
            comes 1), choose the threshold by their pairs and are not trained on.
        threshold_share: of "view1": the share of the people of ``peopleDevTrain.txt`` that
            choose the threshold, fold 0, and are not trained on; drawn once for all cells. Of
            their images up to 1,000 pairs of one person (each person's in turn, so that
            those with many images do not dominate) and as many of two are drawn.
        images: the folder of images; None for the one that is there.
        crop: the images' central crop×crop pixels; None for whole images.
        size: the crop is resized to size×size.
        colour: "rgb" or "grey".
        minimum_images: people with fewer images are not trained on.
        train_people: train on so many people, those with the most images; None for all.
        content: hash of the images and protocol files; filled in, and with it given the cell is
            tied to it.
        validation: see :data:`marginbench.data.choices.validation_people.PeopleValidation`; the
            threshold is chosen as ever.
        validation_draw: which of the possible choices of people.

    Raises:
        UserError: files that are missing, damaged or changed, people in two sets, or parameters
            that are not allowed.
    """
    _check_parameters(protocol, tested_set, threshold_sets, threshold_share)
    parts = dict(_parts({"name": name, "protocol": protocol, "images": images}))
    keys = check_contents(parts.items(), content)
    preprocessing = Preprocessing(size, colour, crop)
    store = read_lfw_images(parts["images"], keys["images"], preprocessing)
    if tested_set is not None:
        protocol_pairs = _unrestricted(store, parts, tested_set, threshold_sets)
    else:
        protocol_pairs = _view1(store, parts, threshold_share)
    people = protocol_pairs.people
    names = sorted(people)
    kept = choose_people(
        np.array([people[person] for person in names]),
        minimum_images=minimum_images,
        train_people=train_people,
    )
    names = [names[k] for k in kept]
    where = repr(str(parts[FILES[protocol][0]]))
    if validation == "held-out":
        ((held, drawn),) = hold_out_people(where, {n: people[n] for n in names}, validation_draw)
        names = [name for name in names if name not in held]
        protocol_pairs = protocol_pairs.tested_on(drawn, len(held))
    rows = [
        (store.row(ImageId(person, number), where), label)
        for label, person in enumerate(names)
        for number in range(1, people[person] + 1)
    ]
    return ImageData(
        train_images=torch.from_numpy(store.images[[row for row, _ in rows]]),
        train_labels=torch.tensor([label for _, label in rows]),
        test_images=torch.empty((0, *store.images.shape[1:]), dtype=torch.uint8),
        test_labels=torch.empty(0, dtype=torch.int64),
        class_names=tuple(names),
        verification=(protocol_pairs.of_images(store),),
        remarks=(protocol_pairs.remark,),
    )


def _check_parameters(
    protocol: str, tested_set: int | None, threshold_sets: int, threshold_share: float
) -> None:
    if protocol == "unrestricted":
        if tested_set is None:
            raise UserError(
                "it needs its parameter 'tested_set' with protocol = 'unrestricted' (1 to 10)"
            )
        if threshold_share != 0.1:
            raise UserError(
                f"threshold_share = {threshold_share:g} is not allowed with protocol = "
                "'unrestricted'; allowed: leave it out, and give threshold_sets"
            )
    elif tested_set is not None or threshold_sets != 1:
        field, value = (
            ("threshold_sets", threshold_sets) if tested_set is None else ("tested_set", tested_set)
        )
        raise UserError(
            f"{field} = {value} is not allowed with protocol = 'view1', which has no "
            "sets; allowed: leave it out"
        )


def _unrestricted(
    store: LfwImages, parts: Mapping[str, Path], tested: int, threshold_sets: int
) -> ProtocolCell:
    sets = read_people(parts["people.txt"], sets=SETS)
    folds = read_pairs(parts["pairs.txt"], folds=SETS)
    for number, (people, pairs) in enumerate(zip(sets, folds, strict=True), start=1):
        check_people(pairs, people, f"set {number} of {str(parts['people.txt'])!r}")
    threshold = [(tested + step) % SETS for step in range(threshold_sets)]
    used = [tested - 1, *threshold]
    trained = [number for number in range(SETS) if number not in used]
    chosen_by = _listed("set", [number + 1 for number in threshold])
    description = (
        f"LFW ({store.folder.name}), unrestricted, no outside data: the pairs of set {tested}; "
        f"threshold chosen on those of {chosen_by}, whose people are not trained on either"
    )
    people = {person: count for number in trained for person, count in sets[number].items()}
    remark = (
        f"LFW, unrestricted, no outside data: trained on the people of "
        f"{_listed('set', [number + 1 for number in trained])}, threshold chosen on {chosen_by}, "
        f"tested on set {tested}; no person is in two sets."
    )
    used_folds = {number: folds[number] for number in sorted(used)}
    return ProtocolCell(people, used_folds, tested - 1, description, remark)


def _view1(store: LfwImages, parts: Mapping[str, Path], threshold_share: float) -> ProtocolCell:
    train_file, test_file = parts["peopleDevTrain.txt"], parts["peopleDevTest.txt"]
    (train,) = read_people(train_file)
    (test,) = read_people(test_file)
    both = sorted(train.keys() & test.keys())
    if both:
        raise UserError(
            f"{both[0]!r} is in {str(train_file)!r} and in {str(test_file)!r}; nobody may "
            f"be in both ({len(both)} are)"
        )
    (tested,) = read_pairs(parts["pairsDevTest.txt"])
    check_people(tested, test, repr(str(test_file)))
    random = np.random.default_rng(0)
    names = sorted(train)
    held = [names[k] for k in random.permutation(len(names))[: _count(threshold_share, names)]]
    choosing = draw_threshold_pairs(
        repr(str(train_file)), {person: train[person] for person in held}, random
    )
    description = (
        f"LFW ({store.folder.name}), view 1: the pairs of pairsDevTest.txt; threshold chosen "
        f"on {len(choosing)} pairs of {len(held)} people of peopleDevTrain.txt, who are not "
        "trained on"
    )
    remark = (
        f"LFW, view 1: {len(held)} of the {len(names)} people of peopleDevTrain.txt are not "
        "trained on and choose the threshold; tested on pairsDevTest.txt."
    )
    people = {name: train[name] for name in names if name not in set(held)}
    return ProtocolCell(people, {0: choosing, 1: tested}, 1, description, remark)


def _count(share: float, names: list[str]) -> int:
    count = round(share * len(names))
    if not 2 <= count <= len(names) - 2:
        raise UserError(
            f"threshold_share = {share:g} is not allowed: it keeps {count} of "
            f"{len(names)} people out of training; allowed: 2 or more on either side"
        )
    return count


def _listed(noun: str, numbers: list[int]) -> str:
    """ "set 4", "sets 4 and 5", "sets 4, 5 and 6"."""
    texts = [str(number) for number in numbers]
    if len(texts) == 1:
        return f"{noun} {texts[0]}"
    return f"{noun}s {', '.join(texts[:-1])} and {texts[-1]}"
