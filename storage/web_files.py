"""Receiving files over http: with a bar, complete, or an error that says why."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO, Any, Final

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_SECONDS: Final = 60.0
"""For connecting and for each read: a server that goes quiet must not hang the command."""


class DownloadError(Exception):
    """One address didn't serve the file; the next may."""


def receive(url: str, file: IO[bytes], label: str, progress: bool) -> tuple[str, int]:
    """Copy what an address serves into a file; returns its sha256 and size in bytes."""
    hasher, size = hashlib.sha256(), 0
    with _opened(url) as response:
        total = response.headers.get("Content-Length")
        expected_size = int(total) if total and total.isdigit() else None
        with _bar(label, expected_size, progress) as advance:
            while chunk := _read(response):
                file.write(chunk)
                hasher.update(chunk)
                size += len(chunk)
                advance(len(chunk))
    if expected_size is not None and size != expected_size:
        raise DownloadError(f"the connection ended after {size:,} of {expected_size:,} bytes")
    return hasher.hexdigest(), size


def _opened(url: str) -> http.client.HTTPResponse:
    try:
        # Addresses come from the registry and open_clip's table, all of them http or https.
        request = urllib.request.Request(url, headers={"User-Agent": "zutis"})  # noqa: S310
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        raise DownloadError(f"it answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"it can't be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"it can't be reached: {error}") from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"the connection broke: {error}") from error


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
