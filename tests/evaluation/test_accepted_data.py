"""Whatever a data source's check accepts, an untrained model is evaluated on to the last number."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from marginbench.backbones import build_backbone
from marginbench.data import ImageData, OneShotRun, OneShotTask, VerificationPairs
from marginbench.data.checks import check_loaded
from marginbench.errors import UserError
from marginbench.evaluation.final import final_evaluation, recorded_retrieval
from marginbench.evaluation.looks import error_rates
from marginbench.evaluation.verification_evaluation import check_verification
from marginbench.experiments.cell_fields import Schedule, Verification
from marginbench.experiments.cells import make_cell
from marginbench.experiments.grids import component
from marginbench.heads import build_head
from tests.conftest import built_in_heads

few = st.integers(0, 5)


class Untrained:
    """A model as it is before its first step."""

    def __init__(self, data, head, width, verification, collapsed):
        self.cell = make_cell(
            data=component("digits"),
            backbone=component("small"),
            head=component(head),
            schedule=Schedule(iterations=20, batch_size=2),
            verification=verification,
        )
        self.device, self.data, self.collapsed = torch.device("cpu"), data, collapsed
        self.train_images, self.train_labels = data.train_images, data.train_labels
        self.test_images, self.test_labels = data.test_images, data.test_labels
        self.backbone = build_backbone(
            "small", data.image_shape, {"widths": [2], "features": width}
        )
        self.head = build_head(head, width, data.num_classes)

    def features(self, images):
        found = self.backbone(images.float() / 255)
        return torch.zeros_like(found) if self.collapsed else found


def images(count, alike):
    random = np.random.default_rng(0)
    made = random.integers(0, 256, (1 if alike else count, 1, 8, 8), dtype=np.uint8)
    return torch.from_numpy(np.broadcast_to(made, (count, 1, 8, 8)).copy())


@st.composite
def verification(draw, name):
    count, number = draw(st.integers(1, 6)), draw(st.integers(1, 8))

    def vector(values, dtype=torch.int64):
        return torch.tensor(draw(st.lists(values, min_size=number, max_size=number)), dtype=dtype)

    people = draw(st.none() | st.lists(st.integers(0, 3), min_size=count, max_size=count))
    place = st.integers(0, count - 1)
    return VerificationPairs(
        name=name,
        images=images(count, draw(st.booleans())),
        first=vector(place),
        second=vector(place),
        same=vector(st.booleans(), torch.bool),
        fold=vector(st.integers(0, draw(st.integers(0, 3)))),
        description="made up",
        tested_folds=draw(st.none() | st.lists(st.integers(0, 2), max_size=2).map(tuple)),
        people=None if people is None else torch.tensor(people),
        image_names=tuple(map(str, range(count))) if draw(st.booleans()) else (),
        may_be_shown=draw(st.booleans()),
    )


@st.composite
def one_shot(draw):
    def numbers(size, below):
        made = st.lists(st.integers(0, below - 1), min_size=size, max_size=size)
        return torch.tensor(draw(made), dtype=torch.int64)

    ways, count = draw(st.integers(1, 3)), draw(few)
    runs = [OneShotRun("run", numbers(ways, 4), numbers(count, 4), numbers(count, ways))]
    return OneShotTask(images(4, draw(st.booleans())), tuple(runs[: draw(few)]))


@st.composite
def data_sets(draw):
    classes = draw(st.integers(2, 4))
    tested = draw(st.lists(st.integers(0, classes - 1), max_size=4))
    return ImageData(
        train_images=images(classes, draw(st.booleans())),
        train_labels=torch.arange(classes),
        test_images=images(len(tested), draw(st.booleans())),
        test_labels=torch.tensor(tested, dtype=torch.int64),
        class_names=tuple(map(str, range(classes))),
        verification=tuple(draw(verification(name)) for name in "ab"[: draw(few) // 2]),
        one_shot=draw(st.none() | one_shot()),
    )


@settings(max_examples=100, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    data_sets(),
    st.sampled_from(built_in_heads()),
    st.sampled_from([1, 2, 3, 5]),
    st.builds(
        Verification,
        mirror=st.sampled_from(["none", "sum", "concatenate"]),
        centre=st.booleans(),
        dimensions=st.integers(0, 3),
        record_retrieval=st.just(True),
    ),
    st.booleans(),
)
def test_what_is_accepted_is_evaluated_to_the_last_number(data, head, width, verified, collapsed):
    try:
        check_loaded(data)
        for pairs in data.verification:
            check_verification(pairs, verified, width)
    except UserError:
        assume(False)
    model = Untrained(data, head, width, verified, collapsed)
    row = error_rates(model) | recorded_retrieval(model)
    numbers, arrays = final_evaluation(model)
    # Neither infinities nor NaN are JSON, and result.json is.
    json.dumps([row, numbers], allow_nan=False)
    assert all(
        np.isfinite(array).all()
        for name, array in arrays.items()
        if array.dtype.kind == "f" and name != "class_cosine"
    )
    assert len(numbers.get("verification", [])) == len(data.verification)
    for found in numbers.get("verification", []):
        assert 0 <= found["accuracy"] <= 1
        assert 0 <= found["characteristic"]["area"]["value"] <= 1
    assert ("one_shot_error" in numbers) == (data.one_shot is not None)
    assert (row["test_error"] is not None) == (len(data.test_images) > 0)


def refused(**changed):
    """A set that is accepted, with a field changed."""
    vectors = {
        "first": torch.arange(4),
        "second": torch.arange(4) + 1,
        "fold": torch.arange(4) // 2,
    }
    pairs = VerificationPairs(
        name="a",
        images=images(5, False),
        same=torch.tensor([True, False, True, False]),
        description="",
        **vectors,
    )
    data = ImageData(
        images(2, False), torch.arange(2), images(0, False), torch.arange(0), ("a", "b"), (pairs,)
    )
    check_loaded(data)
    return replace(data, verification=(replace(pairs, **changed),))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"same": torch.ones(4, dtype=torch.bool)}, "of its 4 tested pairs 4 are of one class"),
        ({"same": torch.zeros(4, dtype=torch.bool)}, "of its 4 tested pairs 0 are of one class"),
        ({"same": torch.tensor([1, 1, 1, 0]) > 0, "tested_folds": (0,)}, "of its 2 tested pairs 2"),
        ({"same": torch.tensor([1, 0, 1, 0])}, r"same is int64 \(4,\); allowed: bool \(4,\)"),
        ({"second": torch.arange(3)}, r"second is int64 \(3,\)"),
        ({"people": torch.arange(4)}, r"people is int64 \(4,\); allowed: int64 \(5,\)"),
        ({"image_names": ("one",)}, "names 1 images and has 5"),
        ({"tested_folds": ()}, r"tests \(\)"),
        ({"tested_folds": (1, 1)}, r"tests \(1, 1\)"),
        ({"name": ""}, "different names"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(changed, told):
    with pytest.raises(UserError, match=told):
        check_loaded(refused(**changed))
