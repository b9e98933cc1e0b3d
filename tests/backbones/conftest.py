"""Where the tests of pretrained backbones have their files."""

import huggingface_hub
import pytest


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Data folder and cache below tmp_path; no network."""
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path
