"""RecordIO: whole and split records, and each kind of damage by its name."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marginbench.data.formats.record_io import RecordFile
from marginbench.errors import UserError
from tests.data.record_files import MAGIC, image_record, part, record, write_records


def test_the_bytes_are_those_of_the_format():
    """A record of 5 bytes and a split one, written out by hand."""
    assert record(b"hello") == bytes.fromhex("0a23d7ce 05000000 68656c6c6f 000000")
    split = b"abcd" + MAGIC + b"xy"
    assert record(split) == bytes.fromhex("0a23d7ce 04000020 61626364 0a23d7ce 02000060 7879 0000")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a",
        b"abcd",
        MAGIC,
        MAGIC * 3,
        b"abcd" + MAGIC,
        MAGIC + b"abcde",
        b"abcd" + MAGIC + b"efgh" + MAGIC + b"i",
        b"ab" + MAGIC + b"cd",
        b"abc" + MAGIC * 2,
        MAGIC[:3],
        b"abcd" + MAGIC[:2],
    ],
)
def test_contents_come_back_whole(tmp_path, content):
    write_records(tmp_path, {3: b"before", 7: content, 1: b"after it"})
    file = RecordFile(tmp_path / "train.rec")
    assert [file.record(key) for key in (7, 1, 3)] == [content, b"after it", b"before"]


@given(
    st.lists(
        st.lists(st.sampled_from([MAGIC, b"abcd", b"x", MAGIC[:2], b""]), max_size=8).map(b"".join),
        min_size=1,
        max_size=5,
    )
)
def test_any_contents_come_back_whole(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("records")
    write_records(folder, dict(enumerate(contents)))
    file = RecordFile(folder / "train.rec")
    assert [file.record(key) for key in range(len(contents))] == contents


def test_labels_are_a_number_or_an_array(tmp_path):
    write_records(
        tmp_path,
        {0: image_record(5.0, b"image"), 1: image_record([7.0, 1.0], b"other"), 2: b"short"},
    )
    file = RecordFile(tmp_path / "train.rec")
    one, other = file.image_record(0), file.image_record(1)
    assert (one.flag, one.labels, one.content) == (0, (5.0,), b"image")
    assert (other.flag, other.labels, other.content) == (2, (7.0, 1.0), b"other")
    with pytest.raises(UserError, match=r"record 2 \(at byte .*it has 5 bytes; an image's header"):
        file.image_record(2)


@pytest.mark.parametrize("flag", [3, 1025, 2**32 - 1])
def test_more_labels_than_there_are_bytes_are_refused(tmp_path, flag):
    write_records(tmp_path, {4: struct.pack("<IfQQ", flag, 0, 4, 0) + b"12345678"})
    with pytest.raises(UserError, match=rf"record 4 .*claims {flag} labels in 32 bytes"):
        RecordFile(tmp_path / "train.rec").image_record(4)


@pytest.mark.parametrize("label", [0.5, -1.0, 1e30, float("nan"), float("inf")])
def test_labels_must_be_whole_numbers(tmp_path, label):
    write_records(tmp_path, {4: image_record(label, b"image")})
    file = RecordFile(tmp_path / "train.rec")
    with pytest.raises(UserError, match=r"record 4 .* its label is .*; allowed: a whole number"):
        file.whole_label(4, file.image_record(4).labels[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0" * 12, "byte 0 has 0x00000000 in place of the magic number 0xced7230a"),
        (MAGIC, "byte 0 is beyond the file's 4 bytes"),
        (record(b"hello")[:11], "5 bytes from byte 8 on reach beyond the file's 11 bytes"),
        (MAGIC + b"\xff\xff\xff\x1f", "536870911 bytes from byte 8 on reach beyond"),
        (part(2, b"abcd"), "a part is of kind 2 where a whole or first one must be"),
        (part(3, b"abcd"), "a part is of kind 3 where a whole or first one must be"),
        (part(7, b"abcd"), "a part is of kind 7 where"),
        (part(1, b"abcd") + part(0, b"efgh"), "kind 0 where a middle or last one must be"),
        (part(1, b"abcd") + part(1, b"efgh"), "kind 1 where a middle or last one must be"),
        (part(1, b"abcd") + part(2, b"efgh"), "byte 24 is beyond the file's 24 bytes"),
        (part(1, b"abcd") + b"\0" * 8, "byte 12 has 0x00000000 in place of the magic"),
    ],
)
def test_damaged_records_are_named(tmp_path, content, words):
    (tmp_path / "train.rec").write_bytes(content)
    (tmp_path / "train.idx").write_text("9\t0\n")
    with pytest.raises(UserError) as refusal:
        RecordFile(tmp_path / "train.rec").record(9)
    assert f"{str(tmp_path / 'train.rec')!r}: record 9 (at byte 0) is damaged" in str(refusal.value)
    assert words in str(refusal.value)


def test_an_index_that_points_elsewhere_is_named(tmp_path):
    write_records(tmp_path, {0: b"some content", 1: b"other content"})
    for offset, words in ((4, "byte 4 has 0x"), (10**9, "byte 1000000000 is beyond the file")):
        (tmp_path / "train.idx").write_text(f"0\t{offset}\n")
        with pytest.raises(UserError, match=rf"record 0 \(at byte {offset}\) is damaged: {words}"):
            RecordFile(tmp_path / "train.rec").record(0)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("0\t0\nx\t5\n", "line 2 is 'x.*5'; expected: KEY<tab>OFFSET"),
        ("0\t0\n5\n", "line 2 is '5'; expected"),
        ("0\t0\n1\t5.5\n", "line 2 is '1.*5.5'; expected"),
        ("0\t0\n1\t99999999999999999999\n", "line 2 is '1.*999'; expected"),
        ("0\t0\t0\n", "line 1 is '0.*0.*0'; expected"),
        ("0\t-4\n", "line 1 is '0.*-4'; expected"),
        ("0\t0\n0\t8\n", "line 2: record 0 is there twice"),
        ("", "names no record"),
        ("0\té\n", "it is no text"),
    ],
)
def test_a_damaged_index_is_named(tmp_path, index, words):
    write_records(tmp_path, {0: b"some content"})
    (tmp_path / "train.idx").write_text(index)
    with pytest.raises(UserError, match=f"train.idx'.*{words}"):
        RecordFile(tmp_path / "train.rec")


def test_files_that_are_missing_or_empty_are_named(tmp_path):
    with pytest.raises(UserError, match=r"train.rec' cannot be read: No such file"):
        RecordFile(tmp_path / "train.rec")
    (tmp_path / "train.rec").write_bytes(b"")
    with pytest.raises(UserError, match=r"train.rec' is empty"):
        RecordFile(tmp_path / "train.rec")
    (tmp_path / "train.rec").write_bytes(record(b"x"))
    with pytest.raises(UserError, match=r"train.idx' cannot be read: No such file"):
        RecordFile(tmp_path / "train.rec")
    (tmp_path / "train.idx").write_text("3\t0\n")
    with pytest.raises(UserError, match=r"train.idx' has no record 4"):
        RecordFile(tmp_path / "train.rec").record(4)
