"""Face sets in RecordIO files, and every record that is not right."""

import io

import numpy as np
import pytest
from PIL import Image

from marginbench.data import load_data
from marginbench.data.files.content import _key_once
from marginbench.errors import UserError
from tests.data.face_files import BIN
from tests.data.record_files import (
    MAGIC,
    face_records,
    image_record,
    png,
    write_faces,
    write_records,
)


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


def test_a_truncated_set_and_a_wrong_property_are_named(root, with_bin):
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


def test_few_people_are_chosen_and_only_they_are_decoded(root, with_bin, monkeypatch):
    from marginbench.data.sources import face_sets

    write_faces(root / "ms1m", [2, 5, 1, 3])
    decoded = []
    decode = face_sets.decode_image

    def counted(where, *options):
        decoded.append(where)
        return decode(where, *options)

    monkeypatch.setattr(face_sets, "decode_image", counted)
    data = load_data("faces", {"name": "ms1m", **BIN, "train_people": 2})
    assert data.class_names == ("1", "3")
    assert len(decoded) == 8
    several = load_data("faces", {"name": "ms1m", **BIN, "minimum_images": 2})
    assert several.class_names == ("0", "1", "3")
    before = len(decoded)
    load_data("faces", {"name": "ms1m", **BIN, "minimum_images": 2})
    assert len(decoded) == before
