"""The report in a browser while cells run."""

import json
import urllib.error
import urllib.request

import pytest

from marginbench.errors import UserError
from marginbench.reporting.live_server import LiveServer


@pytest.fixture
def server(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<p>the page</p>")
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "log.txt").write_text("a log")
    server = LiveServer(tmp_path, 0)
    yield server
    server.close()


def get(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return answer.read().decode()


def test_the_page_is_shown_with_what_reloads_it_and_the_file_is_left_alone(server, tmp_path):
    page = get(server.address)
    assert page.startswith("<p>the page</p>")
    assert "location.reload" in page
    assert (tmp_path / "report" / "index.html").read_text() == "<p>the page</p>"
    assert get(f"{server.address}cell/log.txt") == "a log"


def test_a_new_page_is_told(server):
    server.told = "2 done, 1 running"
    before = json.loads(get(f"{server.address}.state"))
    server.reload()
    after = json.loads(get(f"{server.address}.state"))
    assert before["told"] == "2 done, 1 running"
    assert after["made"] != before["made"]


def test_a_page_from_elsewhere_gets_nothing(server):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(server.address, Host="evil.example:80")


def test_a_port_in_use_is_named(server, tmp_path):
    port = int(server.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(UserError, match=f"--port {port} cannot be used"):
        LiveServer(tmp_path, port)
