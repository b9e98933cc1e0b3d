"""Who the people of a face set are: lists of names, tables of names, and how names are compared."""

import pytest

from marginbench.data import load_data
from marginbench.data.choices.people_names import normalised
from marginbench.errors import UserError
from tests.data.face_files import BIN, write_people
from tests.data.record_files import (
    write_faces,
)


def test_lists_of_names_and_of_classes(root, with_bin):
    write_people(root / "casia", {"0000045": 2, "0000046": 2, "Ann": 2, "Bob": 2, "Cem": 2})
    (root / "out.txt").write_text("# not these\n\n0000045\n  ann \nNobody Known\n")
    given = {"name": "casia", **BIN, "exclude": ["out.txt"]}
    data = load_data("faces", given)
    assert data.class_names == ("0000046", "Bob", "Cem")
    assert "by the list out.txt (3 entries): 2 of 5 left out." in data.remarks[0]
    assert data.remarks[1].startswith("lfw: whose images these are is not known")


def test_numbers_get_their_names_from_a_table(root, lfw):
    write_people(root / "casia", {"0000045": 2, "0000046": 2, "0000047": 2, "0000048": 2})
    (root / "names.txt").write_text(
        "0000045 Adrienne_B\n0000046 Set1_Person_0\n0000048 Zoë Q\n0000099 Not here\n"
    )
    given = {"name": "casia", "verify": ["lfw"], "size": 16}
    with pytest.raises(UserError, match=r"nobody can be left out by exclude = 'lfw/people.txt'"):
        load_data("faces", given | {"exclude": ["lfw"]})
    unknown = load_data("faces", given)
    assert unknown.remarks == (
        "lfw: 4 of 4 people trained on are not known by name, and so not whether they are in it.",
    )
    with pytest.raises(UserError, match="1 people are in the training set and in 'lfw'"):
        load_data("faces", given | {"people_names": "names.txt"})
    data = load_data("faces", given | {"people_names": "names.txt", "exclude": ["lfw"]})
    assert data.class_names == ("Adrienne_B", "0000047", "Zoë Q")
    assert "1 of 4 left out" in data.remarks[0]
    assert "lfw: 1 of 3 people trained on are not known by name" in data.remarks[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0000045\n", "line 1 is '0000045'; expected: CLASS NAME"),
        ("0000045 A\n0000045 B\n", "line 2: class '0000045' has the name 'A' already"),
        ("x Y\n", "names none of the 2 classes, the first of which is '0000045'"),
    ],
)
def test_tables_of_names_that_are_not_right_are_named(root, with_bin, text, words):
    write_people(root / "casia", {"0000045": 2, "0000046": 2})
    (root / "names.txt").write_text(text)
    with pytest.raises(UserError, match=f"names.txt'.*{words}"):
        load_data("faces", {"name": "casia", **BIN, "people_names": "names.txt"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Aaron_Peirsol", "aaron  peirsol"),
        ("Hélène_Fougerolles", "Helene Fougerolles"),
        ("He\u0301le\u0300ne_Fougerolles", "Hélène Fougerolles"),
        ("J.K._Rowling", "JK Rowling"),
        ("Jean-Claude_Braquet", "jean claude braquet"),
        ("Weißmann", "WEISSMANN"),
        ("ＡＢＣ", "abc"),
    ],
)
def test_names_are_compared_by_letters_and_digits(one, other):
    assert normalised(one) == normalised(other)
    assert normalised("张三") != normalised("李四")
    assert normalised("Person_1") != normalised("Person_2")


def test_classes_of_records_are_excluded_by_a_list_and_named_by_a_table(root, lfw):
    write_faces(root / "ms1m", [2, 3, 1, 1])
    (root / "out.txt").write_text("1\n")
    (root / "names.txt").write_text("0 Ann\n1 Bob\n2 Set2_Person_1\n3 Cem\n")
    given = {"name": "ms1m", "verify": ["lfw"], "size": 16}
    data = load_data("faces", given | {"exclude": ["out.txt"]})
    assert data.class_names == ("0", "2", "3")
    named = given | {"exclude": ["out.txt", "lfw"], "people_names": "names.txt"}
    assert load_data("faces", named).class_names == ("Ann", "Cem")
