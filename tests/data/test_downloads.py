"""Public data sets: fetched once, whole, and only with the published hash."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from functools import partial

import pytest

from marginbench.data import load_data
from marginbench.data.files import downloads
from marginbench.data.files.downloads import DOWNLOADS, Download, fetch
from marginbench.errors import UserError

# The one that fetches: the tests' own configuration replaces it by one that fails.
DOWNLOAD = downloads._download
MADE_UP = Download("A/raw", (), {})


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that is served, and its URL; files are fetched in earnest."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setattr(downloads, "_download", DOWNLOAD)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def published(path, content):
    path.write_bytes(content)
    return f"md5:{hashlib.md5(content).hexdigest()}"


def archive(folder, files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return out.getvalue()


def declare(monkeypatch, *arguments):
    monkeypatch.setitem(DOWNLOADS, "A", Download(*arguments))


def test_zipped_files_are_unpacked_beside_themselves(root, server, monkeypatch):
    folder, url = server
    hashes = {
        f"{name}.gz": published(folder / f"{name}.gz", gzip.compress(name.encode()))
        for name in ("x", "y")
    }
    declare(monkeypatch, "A/raw", (url,), hashes)
    folder = fetch("A", ["x", "y"])
    assert folder == root / "A" / "raw"
    assert (folder / "x").read_text() == "x"
    assert (folder / "y").read_text() == "y"
    assert [path.name for path in root.iterdir()] == ["A"]


def test_an_archive_is_unpacked_in_its_place(root, server, monkeypatch):
    folder, url = server
    known = published(folder / "a.tar.gz", archive("batches", {"train": b"1", "test": b"2"}))
    declare(monkeypatch, "batches", (url,), {"a.tar.gz": known})
    folder = fetch("A", ["train", "test"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "train": b"1",
        "test": b"2",
    }
    assert [path.name for path in root.iterdir()] == ["batches"]


def test_the_next_url_is_asked_where_one_has_no_such_file(root, server, monkeypatch):
    folder, url = server
    (folder / "good").mkdir()
    known = published(folder / "good" / "x.gz", gzip.compress(b"x"))
    declare(monkeypatch, "A", (f"{url}bad/", f"{url}good/"), {"x.gz": known})
    assert (fetch("A", ["x"]) / "x").read_text() == "x"


@pytest.mark.parametrize("name", ["x.gz", "x.tar.gz"])
def test_another_hash_is_one_line_and_leaves_nothing(root, server, monkeypatch, name):
    folder, url = server
    good = published(folder / "w.gz", gzip.compress(b"w"))
    found = published(folder / name, gzip.compress(b"changed"))
    wrong = f"md5:{'0' * 32}"
    declare(monkeypatch, "A/raw", (url,), {"w.gz": good, name: wrong})
    with pytest.raises(UserError) as refusal:
        fetch("A", ["w", "x"])
    message = str(refusal.value)
    for word in [f"{url}{name}", wrong, found.removeprefix("md5:"), str(root / "A/raw"), "--data"]:
        assert word in message
    assert "\n" not in message
    assert list(root.iterdir()) == []


def test_a_file_that_is_not_there_is_one_line_and_leaves_nothing(root, server, monkeypatch):
    _, url = server
    declare(monkeypatch, "A/raw", (url, f"{url}mirror/"), {"x.gz": "md5:00"})
    with pytest.raises(UserError, match=r"404 .*/x\.gz; .*404 .*/mirror/x\.gz.* put them there"):
        fetch("A", ["x"])
    assert list(root.iterdir()) == []


def test_a_failed_download_leaves_no_folder_that_was_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path / "new" / "data"))
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match="could not be downloaded"):
        load_data("mnist", {})
    assert set(tmp_path.iterdir()) == before


def test_a_download_appears_whole_and_only_once(root, monkeypatch):
    calls = []

    def download(dataset, folder):
        calls.append(dataset)
        assert not (root / "A" / "raw").exists()
        (folder / "A" / "raw").mkdir(parents=True)
        (folder / "A" / "raw" / "x").write_text(dataset)

    monkeypatch.setitem(DOWNLOADS, "A", MADE_UP)
    monkeypatch.setattr(downloads, "_download", download)
    for _ in range(2):
        assert (fetch("A", ["x"]) / "x").read_text() == "A"
    assert calls == ["A"]
    assert [p.name for p in root.iterdir()] == ["A"]


def test_a_download_that_another_process_won_is_dropped(root, monkeypatch):
    def download(dataset, folder):
        for base in (folder, root):
            (base / "A" / "raw").mkdir(parents=True)
            (base / "A" / "raw" / "x").write_text(str(base))

    monkeypatch.setitem(DOWNLOADS, "A", MADE_UP)
    monkeypatch.setattr(downloads, "_download", download)
    assert (fetch("A", ["x"]) / "x").read_text() == str(root)
