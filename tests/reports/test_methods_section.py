"""What the methods say of the settings and of the machines."""

import pytest
from marginbench.reports.methods import MOST_COLUMNS, methods

from tests.reports.frames import frame, row


def conditions(fields):
    """Two settings, of which one has fields that the other lacks."""
    more = {f"regulariser.parameters.p{number}": number for number in range(fields)}
    rows = [row(setting="plain", comparison="a"), row(setting="more", comparison="b")]
    rows[1]["conditions"] |= more
    (table,) = [one for one in methods(frame(rows)).tables if one.name == "conditions"]
    return table.frame


@pytest.mark.parametrize("fields", [1, MOST_COLUMNS])
def test_few_fields_have_a_column_each(fields):
    found = conditions(fields)
    assert list(found.columns[1:]) == [f"regulariser.parameters.p{n}" for n in range(fields)]
    assert found.iloc[0, 1:].tolist() == ["–"] * fields
    assert found.iloc[1, 1:].tolist() == [str(n) for n in range(fields)]


def test_many_fields_are_named_setting_by_setting():
    found = conditions(MOST_COLUMNS + 1)
    assert found.to_numpy().tolist() == [
        ["plain", ""],
        ["more", " ".join(f"regulariser.parameters.p{n}={n}" for n in range(MOST_COLUMNS + 1))],
    ]


@pytest.mark.parametrize(
    ("processors", "devices", "words"),
    [
        ([("EPYC", "AVX2"), ("EPYC", "AVX2")], {"cpu, EPYC, AVX2": 2}, None),
        # As older run folders have it.
        ([(None, "AVX512"), (None, None)], {"cpu, AVX512": 1, "cpu": 1}, None),
        ([(None, "AVX2"), ("EPYC", "AVX2")], {"cpu, AVX2": 1, "cpu, EPYC, AVX2": 1}, None),
        (
            [("EPYC", "AVX512"), ("EPYC", "AVX2")],
            {"cpu, EPYC, AVX512": 1, "cpu, EPYC, AVX2": 1},
            "(EPYC, AVX2: 1 cell; EPYC, AVX512: 1 cell)",
        ),
        (
            [("EPYC", "AVX2"), ("Xeon", "AVX2")],
            {"cpu, EPYC, AVX2": 1, "cpu, Xeon, AVX2": 1},
            "(EPYC, AVX2: 1 cell; Xeon, AVX2: 1 cell)",
        ),
    ],
)
def test_processors_that_round_differently_are_named(processors, devices, words):
    rows = [
        row(seed=number, processor=processor, cpu_capability=kind)
        for number, (processor, kind) in enumerate(processors)
    ]
    gpu = {"device": "H100", "gpu_software": "CUDA 12.4, cuDNN 90100, driver 550.54"}
    rows.append(row(seed=9, processor="Xeon", cpu_capability="NEON", **gpu))
    content = methods(frame(rows))
    (table,) = [one for one in content.tables if one.name == "versions"]
    found = dict(zip(table.frame["device"], table.frame["cells"], strict=True))
    assert found == devices | {"H100, CUDA 12.4, cuDNN 90100, driver 550.54": 1}
    assert ("round differently" in " ".join(content.text)) is (words is not None)
    assert (words or "") in " ".join(content.text)


def test_what_is_remarked_of_images_is_said_once_a_setting():
    lines = ["4 training images of 2 classes, 2 each.", "In 'birds' are not read: 1 hidden."]
    rows = [row(setting="a", seed=seed, comparison="a", remarks=lines) for seed in range(2)]
    rows.append(row(setting="b", comparison="b", remarks=[]))
    text = methods(frame(rows)).text
    assert f"Images of a: {' '.join(lines)}" in text
    assert sum("Images of" in line for line in text) == 1
