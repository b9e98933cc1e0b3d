"""Results and checkpoints know the images that they were made from."""

import itertools

import pytest

from marginbench import data
from marginbench.runs.stale_results import _content_now, image_notes, is_stale
from marginbench.training.loop import Interrupted
from tests.conftest import tiny_cell, train_cell


@pytest.fixture
def images(monkeypatch):
    """Says what content the images have from now on."""

    def are(content):
        monkeypatch.setitem(data._contents, "digits", lambda: content)
        _content_now.cache_clear()

    yield are
    _content_now.cache_clear()


def test_a_result_knows_its_images(tmp_path, images):
    images("first")
    _, folder = train_cell(tiny_cell(), tmp_path)
    assert folder.read_result()["content"] == "first"
    assert not is_stale(folder, folder.status())
    images("second")
    assert is_stale(folder, folder.status())
    assert image_notes([(folder, folder.status())]) == [
        "1 result made from other images than the data sources have now; "
        "--retrain-stale (run, submit) trains such cells anew"
    ]
    # Not fetched here: nothing is known of them.
    images("")
    assert not is_stale(folder, folder.status())
    assert image_notes([(folder, folder.status())]) == []
    result = folder.read_result()
    del result["content"]
    folder.write_result(result)
    images("second")
    assert not is_stale(folder, folder.status())


def test_a_cell_goes_on_from_a_checkpoint_of_its_own_images_only(tmp_path, images, capsys):
    images("first")
    steps = itertools.cycle(range(1, 9))
    for name in ("a", "b"):
        with pytest.raises(Interrupted):
            train_cell(tiny_cell(), tmp_path / name, should_stop=lambda: next(steps) == 8)
    assert train_cell(tiny_cell(), tmp_path / "a")[1].read_environment()["trained_from"] == 8
    images("second")
    _, folder = train_cell(tiny_cell(), tmp_path / "b")
    assert folder.read_environment()["trained_from"] == 0
    assert "was made from other images; training starts anew" in capsys.readouterr().out
