"""A registry of heads that a test may fill, and that is as before afterwards."""

import pytest

from marginbench import heads, plugins


@pytest.fixture
def scratch_registry(monkeypatch):
    heads.head_names()  # the plug-ins first, so that they are not loaded into the copy only
    for attribute in ("_entries", "_origins"):
        copy = dict(getattr(heads._registry, attribute))
        monkeypatch.setattr(heads._registry, attribute, copy)
    monkeypatch.setattr(plugins, "_plugin_files", dict(plugins._plugin_files))
