"""Face sets to train on, sets to verify on, and people who may not be in both."""

import io
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from marginbench.data import load_data, resolve_data_parameters
from marginbench.data.choices.people_names import normalised
from marginbench.data.files.content import _key_once
from marginbench.data.formats.images import decode_image
from marginbench.errors import UserError
from tests.data.lfw_files import write_image, write_lfw
from tests.data.record_files import (
    MAGIC,
    face_records,
    image_record,
    png,
    write_faces,
    write_records,
)


@pytest.fixture(autouse=True)
def _fresh_process():
    _key_once.cache_clear()


@pytest.fixture
def lfw(root):
    return write_lfw(root / "lfw")


def write_bin(path, pairs=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [png(1000 + number) for number in range(2 * pairs)]
    path.write_bytes(pickle.dumps((images, [k % 2 == 0 for k in range(pairs)])))


def write_people(folder, people, size=(20, 20)):
    for person, count in people.items():
        for number in range(count):
            write_image(folder / person / f"{number}.jpg", person, number, size)


BIN = {"verify": ["lfw.bin"], "size": 16}


@pytest.fixture
def with_bin(root):
    write_bin(root / "lfw.bin")


def test_a_folder_of_people_verified_on_lfw(root, lfw):
    write_people(root / "casia", {"Ann_Other": 3, "Bob_Else": 2})
    given = {"name": "casia", "verify": ["lfw"], "exclude": ["lfw"], "size": 16, "verify_crop": 32}
    data = load_data("faces", given)
    assert data.class_names == ("Ann_Other", "Bob_Else")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert data.test_images.shape == (0, 3, 16, 16)
    (pairs,) = data.verification
    assert (pairs.name, pairs.tested_folds) == ("lfw", None)
    assert torch.bincount(pairs.fold).tolist() == [4] * 10
    assert pairs.image_names[:2] == ("Set1_Person_0 1", "Set1_Person_0 2")
    assert data.remarks == (
        "People excluded from training by the list lfw/people.txt (50 entries): 0 of 2 left out.",
    )
    with Image.open(root / "casia/Bob_Else/1.jpg") as image:
        expected = image.resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(data.train_images[4], np.asarray(expected).transpose(2, 0, 1))
    with Image.open(lfw / "lfw-deepfunneled/Set1_Person_0/Set1_Person_0_0002.jpg") as image:
        cut = image.crop((4, 4, 36, 36)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(pairs.images[1], np.asarray(cut).transpose(2, 0, 1))


def test_overlapping_people_are_an_error_unless_excluded_or_asked_for(root, lfw):
    strangers = {"Ann_Other": 3, "Bob_Else": 2}
    write_people(root / "casia", {"set1  person-0": 2, "SET3_PERSON_2": 2, **strangers})
    given = {"name": "casia", "verify": ["lfw"], "size": 16}
    words = (
        r"2 people are in the training set and in 'lfw' \(SET3_PERSON_2, set1  person-0\); allowed"
    )
    with pytest.raises(UserError, match=words):
        load_data("faces", given)
    data = load_data("faces", given | {"exclude": ["lfw/people.txt"]})
    assert data.class_names == ("Ann_Other", "Bob_Else")
    assert data.remarks == (
        "People excluded from training by the list lfw/people.txt (50 entries): 2 of 4 left out.",
    )
    both = load_data("faces", given | {"allow_overlap": True})
    assert both.num_classes == 4
    assert both.remarks == ("lfw: 2 of its people are trained on (allow_overlap = True).",)


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


def test_an_npz_of_training_images_alone(root, with_bin):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    labels = np.array([0, 1, 1, 3, 3, 3])
    np.savez(root / "faces.npz", x_train=images, y_train=labels, classes=["A", "B", "C", "D"])
    data = load_data("faces", {"name": "faces.npz", **BIN})
    assert data.class_names == ("A", "B", "D")
    assert data.train_labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert np.array_equal(data.train_images, images.transpose(0, 3, 1, 2))
    cut = load_data("faces", {"name": "faces.npz", **BIN, "crop": 8, "size": 8, "colour": "grey"})
    assert cut.image_shape == (1, 8, 8)
    for change, words in (
        ({"y_train": labels[:4]}, "6 training images and 4 labels"),
        ({"y_train": labels + 1}, r"labels from 1 to 4; allowed: 0 to 3"),
        ({"x_train": np.array([None])}, "arrays of objects are not allowed"),
    ):
        arrays = {"x_train": images, "y_train": labels, "classes": ["A", "B", "C", "D"]} | change
        np.savez(root / "faces.npz", **arrays)
        _key_once.cache_clear()
        with pytest.raises(UserError, match=words):
            load_data("faces", {"name": "faces.npz", **BIN})


@pytest.mark.parametrize("arrays", [False, True])
def test_a_recordio_set_with_its_records_of_people(root, with_bin, arrays):
    write_faces(root / "ms1m", [2, 3, 1], arrays=arrays)
    data = load_data("faces", {"name": "ms1m", **BIN})
    assert data.class_names == ("0", "1", "2")
    assert data.train_labels.tolist() == [0, 0, 1, 1, 1, 2]
    for key, image in enumerate(data.train_images, start=1):
        expected = np.asarray(Image.open(io.BytesIO(png(key)))).transpose(2, 0, 1)
        assert np.array_equal(image, expected)
    assert data.remarks[-1].startswith("lfw: whose images these are is not known")


def test_records_with_the_magic_number_in_an_image(root, with_bin):
    # A BMP's pixels are stored as they are: blue, green, red and, of the next, blue.
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    magic = np.frombuffer(MAGIC, dtype=np.uint8)
    for shift in range(4):
        pixels[shift].reshape(-1)[3 * shift : 3 * shift + 4] = magic
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, ::-1]).save(stream, "BMP")
    image = stream.getvalue()
    assert image.count(MAGIC) == 4
    write_faces(root / "ms1m", [1, 1], images=[image, png(2)])
    # The kinds of its parts: a first one somewhere, and so a last one.
    content = (root / "ms1m" / "train.rec").read_bytes()
    kinds = [content[i + 7] >> 5 for i in range(0, len(content), 4) if content[i : i + 4] == MAGIC]
    assert kinds.count(1) == kinds.count(3) == 1
    data = load_data("faces", {"name": "ms1m", **BIN})
    assert np.array_equal(data.train_images[0], pixels[:, :, ::-1].transpose(2, 0, 1))


def test_a_set_of_images_only_and_labels_with_gaps(root, with_bin):
    contents = {k: image_record(float(label), png(k)) for k, label in enumerate([7, 7, 3, 900])}
    write_records(root / "plain", contents)
    data = load_data("faces", {"name": "plain", **BIN})
    assert data.class_names == ("3", "7", "900")
    assert data.train_labels.tolist() == [1, 1, 0, 2]
    (root / "plain" / "property").write_text("901,16,16")
    _key_once.cache_clear()
    data = load_data("faces", {"name": "plain", **BIN})
    assert "plain: 901 people by its file property, of whom 3 have images." in data.remarks


def test_a_set_without_its_records_of_people(root, with_bin):
    contents = face_records([2, 1])
    write_records(root / "ms1m", {key: c for key, c in contents.items() if key < 4})
    assert load_data("faces", {"name": "ms1m", **BIN}).train_labels.tolist() == [0, 0, 1]


def test_classes_of_records_are_excluded_by_a_list_and_named_by_a_table(root, lfw):
    write_faces(root / "ms1m", [2, 3, 1, 1])
    (root / "out.txt").write_text("1\n")
    (root / "names.txt").write_text("0 Ann\n1 Bob\n2 Set2_Person_1\n3 Cem\n")
    given = {"name": "ms1m", "verify": ["lfw"], "size": 16}
    data = load_data("faces", given | {"exclude": ["out.txt"]})
    assert data.class_names == ("0", "2", "3")
    named = given | {"exclude": ["out.txt", "lfw"], "people_names": "names.txt"}
    assert load_data("faces", named).class_names == ("Ann", "Cem")


CHANGES = [
    ({0: image_record([7.0], b"")}, r"record 0 .*it has no image and 1 labels; expected: two"),
    ({0: image_record([7.5, 9.0], b"")}, r"record 0 .*its label is 7.5"),
    ({0: image_record([9.0, 7.0], b"")}, r"record 0 .*people are the records 9 to 6"),
    ({3: image_record(0.25, png(3))}, r"record 3 .*its label is 0.25; allowed: a whole number"),
    ({3: image_record(-2.0, png(3))}, r"record 3 .*its label is -2"),
    ({3: image_record(5.0, png(3))}, r"record 3 .*its label is 5; allowed: 0 to 2, by the file"),
    (
        {3: image_record(2.0, png(3))},
        r"record 8 .*records 3 to 5 are one person's images, and they",
    ),
    ({7: image_record(0.0, b"", 7)}, r"record 7 .*it has 0 labels; expected: two"),
    ({7: image_record([1.0, 99.0], b"")}, r"record 7 .*says that the records 1 to 98 are one"),
    ({7: image_record([1.0, float("nan")], b"")}, r"record 7 .*its label is nan"),
    ({5: image_record(1.0, png(5)[:60])}, r"record 5 \(at byte \d+\) cannot be decoded"),
    ({5: image_record(1.0, b"")}, r"record 5 \(at byte \d+\) cannot be decoded"),
    ({5: b"tiny"}, r"record 5 \(at byte \d+\) is damaged: it has 4 bytes"),
    ({5: None}, r"images are the records 1 to 6, and the index lacks record 5"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_damaged_face_sets_are_named(root, with_bin, change, words):
    contents = face_records([2, 3, 1]) | change
    write_records(root / "ms1m", {k: c for k, c in contents.items() if c is not None})
    (root / "ms1m" / "property").write_text("3,16,16")
    with pytest.raises(UserError, match=words):
        load_data("faces", {"name": "ms1m", **BIN})


def test_a_truncated_set_and_a_strange_property_are_named(root, with_bin):
    offsets = write_faces(root / "ms1m", [2, 3, 1])
    (root / "ms1m" / "property").write_text("three,16,16")
    with pytest.raises(UserError, match=r"property' is 'three,16,16'; expected: PEOPLE,HEIGHT"):
        load_data("faces", {"name": "ms1m", **BIN})
    (root / "ms1m" / "property").write_text("3,16,16")
    file = root / "ms1m" / "train.rec"
    file.write_bytes(file.read_bytes()[: offsets[6] + 100])
    _key_once.cache_clear()
    with pytest.raises(UserError, match=rf"record 6 \(at byte {offsets[6]}\) is damaged: .*beyond"):
        load_data("faces", {"name": "ms1m", **BIN})


@pytest.mark.parametrize("kind", ["records", "folder", "lfw"])
def test_files_that_change_while_they_are_decoded_are_not_kept(
    root, with_bin, lfw, tmp_path, monkeypatch, kind
):
    if kind == "records":
        write_faces(root / "mine", [2, 3, 1])
        file, target = (
            root / "mine" / "train.rec",
            "marginbench.data.sources.face_sets.decode_image",
        )
    elif kind == "folder":
        for person in range(2):
            (root / "mine" / str(person)).mkdir(parents=True)
            (root / "mine" / str(person) / "0.png").write_bytes(png(person))
        file = root / "mine" / "1" / "0.png"
        target = "marginbench.data.sources.face_sets.decode_image"
    else:
        write_faces(root / "mine", [2, 3, 1])
        file = root / "lfw/lfw-deepfunneled/Set4_Person_1/Set4_Person_1_0001.jpg"
        target = "marginbench.data.sources.lfw_images.decode_image"
    verify = {"verify": ["lfw"], "size": 16} if kind == "lfw" else BIN
    given = resolve_data_parameters("faces", {"name": "mine", **verify})

    def touch_and_decode(*arguments, **options):
        with file.open("ab") as stream:
            stream.write(b"\0")
        return decode_image(*arguments, **options)

    monkeypatch.setattr(target, touch_and_decode)
    before = kept_arrays(tmp_path)
    with pytest.raises(UserError, match="the files have changed since"):
        load_data("faces", given)
    whole = [path for path in kept_arrays(tmp_path) - before if np.load(path).ndim == 4]
    # The other set's, which did not change, may be there.
    assert len(whole) == (1 if kind != "lfw" else 0)


def kept_arrays(tmp_path):
    return set((tmp_path / "cache" / "decoded").glob("[!.]*.npy"))


def test_few_people_are_chosen_and_only_they_are_decoded(root, with_bin, monkeypatch):
    from marginbench.data.sources import face_sets

    write_faces(root / "ms1m", [2, 5, 1, 3])
    places = []
    decode = face_sets.decode_image

    def counted(where, *options):
        places.append(where)
        return decode(where, *options)

    monkeypatch.setattr(face_sets, "decode_image", counted)
    data = load_data("faces", {"name": "ms1m", **BIN, "train_people": 2})
    assert data.class_names == ("1", "3")
    assert len(places) == 8
    several = load_data("faces", {"name": "ms1m", **BIN, "minimum_images": 2})
    assert several.class_names == ("0", "1", "3")
    before = len(places)
    load_data("faces", {"name": "ms1m", **BIN, "minimum_images": 2})
    assert len(places) == before


def test_several_sets_are_verified(root, lfw):
    write_bin(root / "bins" / "cfp_fp.bin")
    write_bin(root / "bins" / "agedb_30.bin", pairs=13)
    write_people(root / "casia", {"Ann_Other": 3, "Bob_Else": 2})
    verify = ["lfw", "bins/cfp_fp.bin", "bins/agedb_30.bin"]
    data = load_data("faces", {"name": "casia", "verify": verify, "size": 16})
    assert [pairs.name for pairs in data.verification] == ["lfw", "cfp_fp", "agedb_30"]
    assert data.verification[2].fold.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_content_is_of_every_file_that_counts(root, lfw):
    write_people(root / "casia", {"0": 3, "1": 2, "2": 2})
    write_bin(root / "cfp_fp.bin")
    (root / "names.txt").write_text("0 Ann\n1 Bob\n2 Set1_Person_0\n")
    (root / "out.txt").write_text("nobody\n")
    given = {
        "name": "casia",
        "verify": ["lfw", "cfp_fp.bin"],
        "exclude": ["lfw", "out.txt"],
        "people_names": "names.txt",
        "size": 16,
    }
    values = resolve_data_parameters("faces", given)
    assert len(values["content"]) == 16
    load_data("faces", values)
    for file in (
        root / "casia/0/0.jpg",
        root / "cfp_fp.bin",
        root / "names.txt",
        root / "out.txt",
        lfw / "pairs.txt",
        lfw / "people.txt",
        lfw / "lfw-deepfunneled/Set1_Person_0/Set1_Person_0_0001.jpg",
    ):
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        with pytest.raises(UserError, match="the files have changed since"):
            load_data("faces", values)
        file.write_bytes(before)
    load_data("faces", values)
    shutil.rmtree(root)
    assert resolve_data_parameters("faces", values) == values


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "casia"}, "needs its parameter 'verify'"),
        ({"name": "casia", "verify": []}, r"verify = \[\] is not allowed; allowed: list of text"),
        (
            {"name": "casia", "verify": ["casia"]},
            r"'casia' is not allowed, as .* has no pairs\.txt",
        ),
        (
            {"name": "casia", "verify": ["out.txt"]},
            "'out.txt' is not allowed; allowed: LFW's folder",
        ),
        ({"name": "casia", "verify": ["../x"]}, "verify = '../x' is not allowed; allowed: a name"),
        ({"name": "casia", "verify": ["no.bin"]}, "no.bin' does not exist; the verify 'no.bin' is"),
        ({"name": "casia", "verify": ["lfw.bin", "lfw"]}, "two sets are called 'lfw'"),
        (
            {"name": "casia", **BIN, "exclude": ["casia"]},
            r"exclude = 'casia' .* has no people\.txt",
        ),
        ({"name": "casia", **BIN, "exclude": ["empty.txt"]}, "empty.txt' has no name"),
        ({"name": "casia", **BIN, "people_names": "nope"}, "the people_names 'nope' is relative"),
        ({"name": "casia", **BIN, "crop": 21, "verify_crop": 16}, "is 20×20 pixels, too small for"),
        (
            {"name": "casia", **BIN, "verify_crop": 17},
            "image 0 is 16×16 pixels, too small for a crop",
        ),
        ({"name": "casia", **BIN, "minimum_images": 4}, "minimum_images = 4 is not allowed"),
        ({"name": "bare", **BIN}, r"bare' has no image; allowed: a folder a person"),
        ({"name": "half", **BIN}, r"half/train.idx' cannot be read: No such file"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(root, lfw, with_bin, given, words):
    write_people(root / "casia", {"Ann_Other": 3, "Bob_Else": 2})
    (root / "out.txt").write_text("nobody\n")
    (root / "empty.txt").write_text("# nobody\n")
    (root / "bare").mkdir()
    write_image(root / "bare" / "x.jpg", "x", 1)
    write_faces(root / "half", [1, 1])
    (root / "half" / "train.idx").unlink()
    with pytest.raises(UserError, match=words):
        load_data("faces", given)


def test_lfw_with_two_folders_of_images_cannot_be_verified(root, lfw):
    write_people(root / "casia", {"Ann_Other": 3, "Bob_Else": 2})
    (lfw / "lfw").mkdir()
    with pytest.raises(UserError, match=r"lfw, lfw-deepfunneled; leave only one of them there"):
        load_data("faces", {"name": "casia", "verify": ["lfw"]})


def test_lfw_cannot_be_trained_and_verified_on_at_once(root, lfw):
    given = {"name": "lfw/lfw-deepfunneled", "verify": ["lfw"], "size": 16}
    with pytest.raises(UserError, match=r"\d+ people are in the training set and in 'lfw'"):
        load_data("faces", given)
    with pytest.raises(UserError, match="of 0 people 0 have so many images"):
        load_data("faces", given | {"exclude": ["lfw"]})
