"""Public data sets fetched on first use, each file checked against its published hash."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marginbench.data.files.paths import ROOT_VARIABLE, data_root
from marginbench.errors import UserError
from marginbench.files import no_empty_folders_on_error

# Of a download's error: for a wrong hash it has the URL and both hashes.
MOST_CHARACTERS = 400


@dataclass(frozen=True)
class Download:
    """Where a public data set is fetched from.

    Attributes:
        folder: of the data set below the data folder, or of its files where they are no archive.
        urls: of the folders that hold the files; where one fails, the next is used.
        hashes: of each file, by its name: ".gz" is unpacked beside it, ".tar.gz" in its place.
    """

    folder: str
    urls: tuple[str, ...]
    hashes: Mapping[str, str]


DOWNLOADS = {
    "MNIST": Download(
        "MNIST/raw",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        {
            "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "FashionMNIST": Download(
        "FashionMNIST/raw",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        {
            "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "CIFAR10": Download(
        "cifar-10-batches-py",
        ("https://www.cs.toronto.edu/~kriz/",),
        {"cifar-10-python.tar.gz": "md5:c58f30108f718f92721af3b95e74349a"},
    ),
    "CIFAR100": Download(
        "cifar-100-python",
        ("https://www.cs.toronto.edu/~kriz/",),
        {"cifar-100-python.tar.gz": "md5:eb9058c3a382ffc7106e4002c42a8d85"},
    ),
}


def fetch(dataset: str, files: Sequence[str], instead: str = "") -> Path:
    """The folder of a public data set below the data folder; downloaded if it is not there.

    The download goes to a folder of its own, which is renamed when it is whole: processes that
    start at once cannot see each other's half-written files.

    Args:
        dataset: its name in :data:`DOWNLOADS`.
        files: what must be in the data set's folder, for the message.
        instead: a file in the data folder that would do as well, for the message.

    Raises:
        UserError: the download failed or is not what was published, or the folder cannot be
            written; the message says which files to put where.
    """
    root, folder = data_root(), DOWNLOADS[dataset].folder
    destination = root / folder
    if destination.is_dir():
        return destination
    try:
        with no_empty_folders_on_error(destination.parent):
            _fetch_whole(dataset, root, folder)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:MOST_CHARACTERS]
        other = f"or {instead} into {str(root)!r}, " if instead else ""
        raise UserError(
            f"its files are not in {str(destination)!r} and could not be downloaded "
            f"({reason}); put them there ({', '.join(files)}), {other}or set --data or "
            f"{ROOT_VARIABLE} to the folder that holds {folder!r}"
        ) from error
    return destination


def _fetch_whole(dataset: str, root: Path, folder: str) -> None:
    """Download to a folder of its own, and rename that when it is whole."""
    destination = root / folder
    temporary = root / f".download-{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        _download(dataset, temporary)
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            (temporary / folder).rename(destination)
        except OSError:
            # Another process was faster; its files are as good.
            if not destination.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _download(dataset: str, root: Path) -> None:
    """Fetch a data set's files and unpack them, so that its folder is below the root.

    Raises:
        OSError: a file that no URL has with the published hash; the message has each one's error.
    """
    import pooch

    download = DOWNLOADS[dataset]
    for name, known_hash in download.hashes.items():
        is_archive = name.endswith(".tar.gz")
        path = root if is_archive else root / download.folder
        errors = []
        for url in download.urls:
            unpack = (
                pooch.Untar(extract_dir=".")
                if is_archive
                else pooch.Decompress(name=name.removesuffix(".gz"))
            )
            try:
                pooch.retrieve(url + name, known_hash, name, path, unpack)
                break
            except Exception as error:
                # requests, pooch and the unpackers each have exceptions of their own.
                errors.append(f"{url}{name}: {type(error).__name__}: {error}")
        else:
            raise OSError("; ".join(errors))
