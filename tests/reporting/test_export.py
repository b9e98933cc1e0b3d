"""Results and histories for other programs, figures for papers."""

import json
import resource
import signal
import sys

import pandas as pd
import pytest

from marginbench.errors import UserError
from marginbench.experiments.suites import Suite
from marginbench.reporting import export
from tests.reports.frames import frame, row, with_history


@pytest.fixture
def results(tmp_path):
    rows = [row("softmax", None, 0, 0.25), row("arcface", None, 1, 0.125, setting="a/b")]
    return frame(with_history(rows, tmp_path))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_results_and_histories_come_back_as_they_were(results, tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    folder = tmp_path / kind
    paths = export.exported(lambda into: getattr(export, f"write_{kind}")(results, into), folder)
    cells, looks = (getattr(pd, f"read_{kind}")(path) for path in paths)
    assert cells["test_error"].tolist() == [0.25, 0.125]
    assert [json.loads(text) for text in cells["conditions"]] == results["conditions"].tolist()
    assert looks["iteration"].tolist() == [5, 10, 5, 10]
    assert looks["test_error"].tolist() == [0.5, 0.25, 0.25, 0.125]


@pytest.mark.parametrize("kind", ["csv", "parquet", "tensorboard"])
def test_a_full_disk_costs_no_earlier_file_and_is_told_in_a_line(results, tmp_path, kind):
    pytest.importorskip({"parquet": "pyarrow", "tensorboard": "tensorboardX"}.get(kind, "pandas"))
    write = getattr(export, f"write_{kind}")
    export.exported(lambda into: write(results, into), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written: .*File too large") as refused:
            export.exported(lambda into: write(results, into), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_event_files_hold_every_look(results, tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.event_file_writer import EventsWriter  # noqa: F401
    from tensorboardX.proto.event_pb2 import Event

    folders = export.write_tensorboard(results, tmp_path / "events")
    assert [str(f.relative_to(tmp_path / "events")) for f in folders] == [
        "MNIST (Table 2)/softmax/seed 0",
        "a∕b/arcface/seed 1",
    ]
    assert export.write_tensorboard(results, tmp_path / "events") == folders
    (file,) = folders[0].iterdir()
    assert "tfevents" in file.name
    content, values = file.read_bytes(), {}
    while content:
        # A record: its length in 8 bytes, 4 of a checksum, the event, 4 of a checksum.
        size = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + size])
        values |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        content = content[16 + size :]
    assert values[5, "test_error"] == 0.5
    assert values[10, "test_error"] == 0.25
    assert {tag for _, tag in values} == {"learning_rate", "loss", "train_error", "test_error"}


@pytest.mark.parametrize(("library", "kind"), [("pyarrow", "parquet"), ("tensorboardX",) * 2])
def test_a_missing_library_is_named_with_the_extra_that_has_it(
    results, tmp_path, monkeypatch, library, kind
):
    monkeypatch.setitem(sys.modules, library, None)
    extra = export.EXTRAS[library]
    write = getattr(export, f"write_{extra}")
    with pytest.raises(UserError, match=rf"{library}.*marginbench\[{extra}\]"):
        write(results, tmp_path)


def test_figures_for_papers_have_their_fonts_in_them_and_both_widths(results, tmp_path):
    suite = Suite("tested", "", "", 1, "softmax", ("overfitting",), lambda seeds: [])
    stems = export.write_figures(results[:1], suite, tmp_path)
    assert [stem.name for stem in stems] == [
        f"overfitting-mnist-table-2-{width}" for width in ("one-column", "two-columns")
    ]
    for stem in stems:
        pdf = stem.with_name(f"{stem.name}.pdf").read_bytes()
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
        assert stem.with_name(f"{stem.name}.svg").exists()
