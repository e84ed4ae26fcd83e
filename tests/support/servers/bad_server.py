"""A web server that fails as real ones do, by a script for each path."""

from __future__ import annotations

import contextlib
import http.server
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.servers.loopback import answering

HANG, DRIP, CUT, RESET, REFUSE = "hang", "drip", "cut", "reset", "refuse"
"""No answer; a byte at intervals; half of the body; a reset in mid-body; closed at once."""


class BadServer(http.server.ThreadingHTTPServer):
    """Answers each path by the first item of its script, which is removed unless it is the last.

    An item is a body (bytes), a status, a pair of a status and headers, `("retag", etag, body)`, or
    one of the words above; the words about bodies send `body`.

    Attributes:
        scripts: the script of each path; paths without one give 404.
        asked: paths, in the order of the requests.
        most: the maximum number of requests that were answered at a time.
        ranges: whether range requests are supported.
        body: the body for the words above.
        etag: the version of all files; empty for none.
        sent: number of bytes of bodies that were sent intentionally.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scripts: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.most = 0
        self.ranges = True
        self.body = b"x" * 1000
        self.etag = ""
        self.sent: list[int] = []
        self.over = threading.Event()
        self.gate: threading.Event | None = None
        self._lock = threading.Lock()
        self._answering = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    @property
    def times(self) -> Counter[str]:
        """Number of requests of each path."""
        return Counter(self.asked)

    def next(self, path: str) -> Any:
        with self._lock:
            self.asked.append(path)
            script = self.scripts.get(path, [404])
            return script.pop(0) if len(script) > 1 else script[0]

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._answering += 1
            self.most = max(self.most, self._answering)
        try:
            if self.gate is not None:
                self.gate.wait(20)
            yield
        finally:
            with self._lock:
                self._answering -= 1

    def handle_error(self, *_: object) -> None:
        pass  # clients hang up


class _Handler(http.server.BaseHTTPRequestHandler):
    server: BadServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with self.server.counted():
            self._answer(self.server.next(self.path))

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, item: Any) -> None:
        if isinstance(item, bytes):
            self._send(item)
        elif item == HANG:
            self.server.over.wait(60)
            self.close_connection = True
        elif item == REFUSE:
            self.close_connection = True
        elif isinstance(item, str):
            self._send_badly(item)
        elif isinstance(item, tuple) and item[0] == "retag":
            self.server.etag = item[1]
            self._send(item[2])
        else:
            status, headers = item if isinstance(item, tuple) else (item, {})
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

    def _end_head(self) -> None:
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()

    def _send(self, body: bytes) -> None:
        wanted = self.headers.get("Range")
        if self.headers.get("If-Range") not in (None, self.server.etag):
            wanted = None
        start, end = 0, len(body)
        if wanted and self.server.ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(len(body), int(last) + 1) if last else len(body)
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self._end_head()
        self.server.sent.append(end - start)
        if self.command != "HEAD":
            self.wfile.write(body[start:end])

    def _send_badly(self, how: str) -> None:
        body = self.server.body
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self._end_head()
        self.close_connection = True
        if how == DRIP:
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                if self.server.over.wait(0.05):
                    return
            return
        self.server.sent.append(len(body) // 2)
        self.wfile.write(body[: len(body) // 2])
        if how == RESET:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def bad_server() -> Iterator[BadServer]:
    """A server that answers until the block ends, also while a script hangs."""
    with BadServer() as server, answering(server):
        try:
            yield server
        finally:
            server.over.set()


class Clock:
    """A clock that moves only by `sleep`, which returns at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@contextmanager
def hurried(monkeypatch: pytest.MonkeyPatch, transfer: float = 20.0) -> Iterator[Clock]:
    """Let sleeps return at once and transfers take `transfer` seconds; forget servers' states."""
    from fsspec.implementations.http import HTTPFileSystem

    from storage.web import retries

    clock = Clock()
    monkeypatch.setattr(retries, "_clock", lambda: clock.now)
    monkeypatch.setattr(retries, "_sleep", clock.sleep)
    monkeypatch.setenv(retries.TRANSFER_VARIABLE, str(transfer))
    HTTPFileSystem.clear_instance_cache()
    retries.forget_hosts()
    yield clock
    retries.forget_hosts()
    HTTPFileSystem.clear_instance_cache()
