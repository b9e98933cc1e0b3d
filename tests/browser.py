"""A headless Chromium, driven by its DevTools protocol: for tests of pages.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path

import websocket

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
SECONDS = 60


def installed():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser; a context manager.

    Attributes:
        errors: texts of the console's errors and of exceptions nobody caught.
        requests: addresses that were asked for, but those that the page itself holds.
    """

    def __init__(self, program, profile):
        self._profile = Path(profile)
        self._number = 0
        self.errors, self.requests = [], []
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *("--disable-background-networking", "--disable-dev-shm-usage", "--disable-extensions"),
            *("--remote-debugging-port=0", "--remote-allow-origins=*"),
            f"--user-data-dir={profile}",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([program, *options, "about:blank"], **quiet)

    def __enter__(self):
        try:
            port, path = self._wait(self._address)
            self._socket = websocket.create_connection(
                f"ws://127.0.0.1:{port}{path}", timeout=SECONDS
            )
            self._session = None
            (target,) = [
                t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"
            ]
            attached = {"targetId": target["targetId"], "flatten": True}
            self._session = self.call("Target.attachToTarget", **attached)["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def call(self, method, **parameters):
        """One command of the protocol; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def open(self, address):
        """Go there, and wait until the page's script has drawn everything."""
        self.call("Page.navigate", url=str(address))
        self._wait(lambda: self.run("document.documentElement?.classList.contains('ready')"))

    def run(self, code):
        """The value of an expression of JavaScript, a promise's too."""
        options = {"returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", expression=code, **options)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def screen(self, width, height, dark=False, medium="screen"):
        """Become a screen of that many pixels, in dark or light colours; or "print"."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=medium, features=[scheme])
        # Two frames later the charts have their new width.
        self.run("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def point_at(self, x, y):
        """Move the pointer there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, whole=False):
        """The screen as PNG; the whole page if asked."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def paper(self):
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def _address(self):
        try:
            lines = (self._profile / "DevToolsActivePort").read_text().split()
        except OSError:
            return None
        return lines if len(lines) == 2 else None

    def _note(self, method, values):
        if method == "Runtime.exceptionThrown":
            self.errors.append(values["exceptionDetails"].get("exception", {}).get("description"))
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.errors.append(" ".join(str(a.get("value")) for a in values["args"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(values["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            address = values["request"]["url"]
            if not address.startswith(("data:", "blob:", "file:")):
                self.requests.append(address)

    def _wait(self, known):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if value := known():
                return value
            assert self._process.poll() is None, "the browser has ended"
            time.sleep(0.05)
        raise AssertionError("the browser did not answer in time")
