"""A small server on this machine that shows a report and reloads it when it was made anew."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from marginbench.errors import UserError

ADDRESS = "127.0.0.1"
PAGE = "/report/index.html"
STATE = "/.state"
_RELOADING = b"""<script>
(() => {
  const bar = document.createElement("p");
  bar.style.cssText = "position:fixed;bottom:0;right:0;margin:0;padding:.3rem .8rem;" +
    "background:var(--field);border:1px solid var(--line);font-size:.85rem;z-index:9";
  document.body.append(bar);
  let made;
  const look = () => fetch("/.state").then((answer) => answer.json()).then((state) => {
    bar.textContent = state.told;
    if (made !== undefined && made !== state.made) location.reload();
    made = state.made;
  }).catch(() => { bar.textContent = "marginbench watch has ended"; });
  look();
  setInterval(look, 2000);
})();
</script>
"""
_WAITING = b"<!doctype html><meta charset='utf-8'><title>marginbench</title><p>No report yet.</p>"


class LiveServer:
    """Serves a suite's folder to this machine alone, from a thread of its own.

    Args:
        folder: ``RUNS/SUITE``; the page is ``report/index.html`` in it.
        port: of 127.0.0.1; 0 for any that is free.

    Attributes:
        told: a line that the open page shows.

    Raises:
        UserError: the port cannot be used.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.told = ""
        self._made = 0
        try:
            self._server = ThreadingHTTPServer((ADDRESS, port), self._handler(folder))
        except OSError as error:
            raise UserError(
                f"--port {port} cannot be used: {error.strerror or error}; allowed: a free one"
            ) from None
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Of the page, for a browser."""
        return f"http://{ADDRESS}:{self._server.server_address[1]}/"

    def reload(self) -> None:
        """The page was made anew: whoever looks at it gets the new one."""
        self._made += 1

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self, folder: Path) -> type[SimpleHTTPRequestHandler]:
        live = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, directory=str(folder), **options)

            def do_GET(self) -> None:
                # A page from elsewhere must not read this one by a name that it has for 127.0.0.1.
                host = self.headers.get("Host", "").rpartition(":")[0]
                if host not in (ADDRESS, "localhost"):
                    self.send_error(HTTPStatus.FORBIDDEN)
                elif self.path == "/":
                    self.send_response(HTTPStatus.FOUND)
                    self.send_header("Location", PAGE)
                    self.end_headers()
                elif self.path == STATE:
                    state = {"made": live._made, "told": live.told}
                    self._answer(json.dumps(state).encode(), "application/json")
                elif self.path.partition("?")[0] == PAGE:
                    self._answer(self._page(), "text/html; charset=utf-8")
                else:
                    super().do_GET()

            def _page(self) -> bytes:
                try:
                    page = (folder / PAGE.strip("/")).read_bytes()
                except OSError:
                    page = _WAITING
                return page + _RELOADING

            def _answer(self, content: bytes, kind: str) -> None:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing: the terminal shows the cells."""

        return Handler
