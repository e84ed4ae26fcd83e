"""A proxy before an S3 server that fails, delays or truncates responses."""

from __future__ import annotations

import http.client
import http.server
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from tests.support.servers.loopback import answering

Mischief = Literal["none", "fails", "is slow", "is short"]
_BUSY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""
_SLOWEST = 0.25
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy(http.server.ThreadingHTTPServer):
    """A proxy on a loopback port, before a server on another one.

    Args:
        url: the server's.
        seed: of the choice of requests that fail.

    Attributes:
        mischief: `fails`: a third of all requests are answered with 503 or 500, or not at all;
            `is slow`: each waits up to a quarter of a second; `is short`: a third of all bodies
            end in the middle, though their length was announced.
        done: how many requests passed, and how many didn't.
    """

    daemon_threads = True

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(url).netloc
        self.mischief: Mischief = "none"
        self.done: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def draw(self, of: int = 3) -> int:
        with self._lock:
            return self._dice.randrange(of)

    def count(self, what: str) -> None:
        with self._lock:
            self.done[what] += 1


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.mischief == "is slow":
            time.sleep(_SLOWEST * self.server.draw(11) / 10)
        if self.server.mischief == "fails" and self.server.draw() == 0:
            self._fail()
            return
        self._pass_on(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - names of http.server

    def _fail(self) -> None:
        self.server.count("failed")
        way = self.server.draw()
        self.close_connection = True
        if way == 0:  # hang up, after the request was read
            return
        content = b"" if self.command == "HEAD" else _BUSY
        self.send_response(503 if way == 1 else 500)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _pass_on(self, body: bytes) -> None:
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        content = answer.read()
        behind.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP | {"server", "date"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command == "HEAD":
            content = b""
        cut = self.command == "GET" and self.server.mischief == "is short" and len(content) > 1
        if cut and self.server.draw() == 0:
            self.server.count("cut")
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.server.count("passed")
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def proxy_before(url: str, seed: int) -> Iterator[Proxy]:
    """A proxy that answers until the block ends."""
    with Proxy(url, seed) as proxy, answering(proxy):
        yield proxy
