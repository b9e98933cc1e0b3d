"""The code that runs, by versions and digests."""

import json

from marginbench.runs.code_version import code_version


def test_a_package_that_was_found_by_a_relative_path_is_no_trouble_in_another_folder(
    tmp_path, monkeypatch
):
    """As in a clone with its egg-info, where Python's path has the current folder."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (here / "other-1.0.dist-info").mkdir(parents=True)
    (here / "other-1.0.dist-info/METADATA").write_text("Name: other\nVersion: 1.0\n")
    (here / "other-1.0.dist-info/entry_points.txt").write_text(
        "[marginbench.heads]\nother = no_such_module\n"
    )
    monkeypatch.syspath_prepend("")
    monkeypatch.chdir(here)
    assert code_version()["packages"]["other"] == "1.0"
    monkeypatch.chdir(elsewhere)
    version = code_version()
    assert "other" not in version["packages"]
    assert json.dumps(version, sort_keys=True)
