"""Downloads of large files over http: with retries, a progress bar, and errors that say why."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final, TypeVar

from storage.errors.reject_reasons import CONNECTION_LOST, TIMED_OUT
from storage.web.retries import TransientWebError, transient_error_of_status, with_retries

_Answer = TypeVar("_Answer")

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_SECONDS: Final = 60.0
"""For a connection with the answer's head, redirections included; without a byte; and for each
`_LEAST_BYTES`. A server that goes quiet, or sends a byte now and then, must not hang us."""

_LEAST_BYTES: Final = 1 << 16


class DownloadError(Exception):
    """One address didn't serve the file; the next may."""


def receive(url: str, file: IO[bytes], label: str, progress: bool) -> tuple[str, int]:
    """Copy what an address serves into a file; returns its sha256 and size in bytes.

    Transient errors are retried (see `storage.web.retries`), from where the transfer broke off if
    the server confirms that the file is still the same.

    Args:
        url: http or https.
        file: seekable, and empty.
        label: of the bar.
        progress: show one, on a terminal.

    Raises:
        DownloadError: the address doesn't serve the file.
        OSError: the file can't be written.
    """
    received = _Received(file)
    try:
        with_retries(url, lambda: _receive_rest(url, received, label, progress))
    except TransientWebError as error:
        raise DownloadError(str(error)) from error
    return received.hasher.hexdigest(), received.size


@dataclass
class _Received:
    """The part of a file that has been received.

    Attributes:
        version: the server's ETag of the content; empty where it has none.
    """

    file: IO[bytes]
    size: int = 0
    version: str = ""
    hasher: Any = field(default_factory=hashlib.sha256)

    @property
    def wanted(self) -> dict[str, str]:
        """Headers that ask for the rest, if there is one to ask for."""
        if not (self.size and self.version):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.version}

    def add(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.hasher.update(chunk)
        self.size += len(chunk)

    def begin(self, headers: http.client.HTTPMessage) -> None:
        """Forget what came: the file is sent from its beginning."""
        self.file.seek(0)
        self.file.truncate()
        self.size, self.hasher = 0, hashlib.sha256()
        version = headers.get("ETag", "")
        self.version = "" if version.startswith("W/") else version  # weak ones name no bytes


def _receive_rest(url: str, received: _Received, label: str, progress: bool) -> None:
    with _opened(url, received.wanted) as response:
        place = f"bytes {received.size}-"
        if response.status != http.client.PARTIAL_CONTENT:
            received.begin(response.headers)
        elif not response.headers.get("Content-Range", "").startswith(place):
            received.begin(http.client.HTTPMessage())
            raise TransientWebError(CONNECTION_LOST, "it sends another part than the one asked for")
        total = response.headers.get("Content-Length")
        expected = received.size + int(total) if total and total.isdigit() else None
        with _bar(label, expected, progress) as advance:
            advance(received.size)
            for chunk in _chunks(response):
                received.add(chunk)
                advance(len(chunk))
    if expected is not None and received.size != expected:
        text = f"the connection ended after {received.size:,} of {expected:,} bytes"
        raise TransientWebError(CONNECTION_LOST, text)


def _opened(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    # Addresses come from the registry and open_clip's table, all of them http or https.
    request = urllib.request.Request(url, headers={"User-Agent": "zutis", **headers})  # noqa: S310
    try:
        response = _in_time(
            lambda: urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
        )
    except urllib.error.HTTPError as error:
        text = f"it answers {error.code} {error.reason}"
        transient = transient_error_of_status(error.code, error.headers.get("Retry-After"))
        error.close()
        if transient is not None:
            raise TransientWebError(transient.reason, text, pause=transient.pause) from error
        raise DownloadError(text) from error
    except TransientWebError:
        raise
    except TimeoutError as error:
        raise _too_slow() from error
    except (OSError, http.client.HTTPException) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(why, TimeoutError):
            raise _too_slow() from error
        text = f"it can't be reached: {why}"
        if isinstance(why, ConnectionResetError | http.client.RemoteDisconnected):
            raise TransientWebError(CONNECTION_LOST, text) from error
        raise DownloadError(text) from error  # no server: the next address may have it
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _in_time(call: Callable[[], _Answer]) -> _Answer:
    """What a call returns or raises, if it does within `_TIMEOUT_SECONDS`.

    A socket's own limit is on silence, and a head that comes byte by byte is none. The thread that
    is left behind ends with its connection, or with the process.
    """
    answers: list[_Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as error:  # raised below
            errors.append(error)

    thread = threading.Thread(target=run, name="download", daemon=True)
    thread.start()
    thread.join(_TIMEOUT_SECONDS)
    if errors:
        raise errors[0]
    if not answers:
        raise _too_slow()
    return answers[0]


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    deadline, least = time.monotonic() + _TIMEOUT_SECONDS, _LEAST_BYTES
    while True:
        try:
            chunk = response.read1(_CHUNK_BYTES)  # returns the bytes received so far
        except TimeoutError as error:
            raise _too_slow() from error
        except (OSError, http.client.HTTPException) as error:
            raise TransientWebError(CONNECTION_LOST, f"the connection broke: {error}") from error
        if not chunk:
            return
        yield chunk
        least -= len(chunk)
        if least <= 0:
            deadline, least = time.monotonic() + _TIMEOUT_SECONDS, _LEAST_BYTES
        elif time.monotonic() > deadline:
            raise _too_slow(retry=False)


def _too_slow(*, retry: bool = True) -> TransientWebError:
    text = f"it sends nothing, or next to nothing, for {_TIMEOUT_SECONDS:g} s"
    return TransientWebError(TIMED_OUT, text, retry=retry)


@contextlib.contextmanager
def _bar(label: str, total: int | None, progress: bool) -> Iterator[Any]:
    if not (progress and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
