"""A browser that tests drive, where the machine has one: keys, sizes, scripts, screenshots.

It is spoken to over the DevTools protocol, which needs no package that fits the browser's version.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.sync.client import ClientConnection, connect

_CODES: Final = {"Enter": 13, "Escape": 27, "Tab": 9}
_FAULTS: Final = ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")


def browser_program() -> str:
    """`ZUTIS_TEST_BROWSER` or `chromium`; a test skips where there is none."""
    browser = os.environ.get("ZUTIS_TEST_BROWSER") or shutil.which("chromium")
    if not browser:
        pytest.skip("no browser: set ZUTIS_TEST_BROWSER or install chromium")
    return browser


class Tab:
    """A page in a browser.

    Attributes:
        faults: what scripts have thrown, and what the browser has complained of.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._number = connection, 0
        self.faults: list[dict[str, Any]] = []
        for name in ("Page", "Runtime", "Log"):
            self.command(f"{name}.enable")

    def command(self, method: str, **given: Any) -> dict[str, Any]:
        """Send a command of the protocol, and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        self._connection.send(json.dumps(message))
        while True:
            answer = json.loads(self._connection.recv(timeout=30))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if answer.get("method") in _FAULTS:
                self.faults.append(answer)

    def open(self, address: str, until: str) -> None:
        """Open an address, and wait until a script's value is true."""
        self.command("Page.navigate", url=address)
        self.wait(until)

    def size(self, width: int, height: int = 900) -> None:
        """Set the window's size, pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def value(self, script: str) -> Any:
        """What a script comes to."""
        found = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 20) -> None:
        """Wait until a script's value is true."""
        end = time.monotonic() + seconds
        while not self.value(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def keys(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            text = "\r" if key == "Enter" else key if len(key) == 1 else ""
            code = {"windowsVirtualKeyCode": _CODES[key]} if key in _CODES else {}
            for kind in ("keyDown", "keyUp"):
                given = {"text": text} if kind == "keyDown" and text else {}
                self.command("Input.dispatchKeyEvent", type=kind, key=key, **given, **code)

    def screenshot(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])


@contextmanager
def open_browser(folder: Path) -> Iterator[Tab]:
    """A browser with an empty page, whose profile is in a folder."""
    command = [
        browser_program(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-dev-shm-usage", "--disable-background-networking",
        f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_address(folder), max_size=None) as connection:
            yield Tab(connection)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _address(folder: Path) -> str:
    """Where the browser's page listens, as soon as it does."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            port = (folder / "DevToolsActivePort").read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
                pages = [each for each in json.load(answer) if each["type"] == "page"]
            return str(pages[0]["webSocketDebuggerUrl"])
        except (OSError, IndexError):
            time.sleep(0.05)
    raise AssertionError("the browser does not answer")
