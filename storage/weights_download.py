"""Downloading published weights: each file appears complete and verified, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from storage.errors import WeightsError
from storage.state_dicts import looks_like_weights
from storage.weights import (
    Record,
    adopt,
    cached_file,
    publishing,
    read_record,
    record_path,
    sha256_of,
    weights_folder,
    write_record,
)
from storage.weights_registry import Download, PublishedWeights, published

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_SECONDS: Final = 60.0
"""For connecting and for each read: a server that goes quiet must not hang the command."""


class _DownloadError(Exception):
    """One address didn't serve the file; the next may."""


def fetch(name: str, progress: bool = True) -> Path:
    """Download published weights into the folder, or find that they are there and unharmed.

    The file appears under its name only when it is complete and verified. Addresses are tried in
    order. What was recorded at the first fetch holds: other bytes are refused.

    Args:
        name: `nq20`, `nq10`, one of ZUTIS's such as `coco_vit_b_16`, or `ARCH:TAG`.
        progress: show a bar on a terminal's standard error.

    Returns:
        The file's path.

    Raises:
        WeightsError: the name is unknown, or no address served the file (the text names them all,
            why each failed, and where to put the file by hand).
        StorageError: the folder can't be written or the disk is full.
    """
    weights = published(name)
    record = read_record(weights.stem)
    path = cached_file(weights.stem, record)
    if path is not None:
        record = record or adopt(weights, path)
        if sha256_of(path) == record.sha256:
            return path
    failures = []
    for download in weights.downloads:
        expected = download.sha256 or _recorded_sha256(download, record)
        try:
            return _fetch_from(weights, download, expected, progress)
        except _DownloadError as error:
            failures.append(f"{download.url} ({error})")
    target = weights_folder() / f"{weights.stem}{weights.downloads[0].suffix}"
    raise WeightsError(
        f"The weights {weights.name} can't be downloaded: {'; '.join(failures)}; check the network,"
        f" or download the file elsewhere and put it at {target}."
    )


def _recorded_sha256(download: Download, record: Record | None) -> str | None:
    """What an address must serve again; weights in another format have another sha256."""
    if record is None or Path(record.file).suffix != download.suffix:
        return None
    return record.sha256


def _fetch_from(
    weights: PublishedWeights, download: Download, expected: str | None, progress: bool
) -> Path:
    path = weights_folder() / f"{weights.stem}{download.suffix}"
    with publishing(path) as file:
        digest, size = _receive(download.url, file, weights.name, progress)
        if expected is not None and digest != expected:
            raise _DownloadError(
                f"it serves other bytes, sha256 {digest}, than the {expected} on record; if the"
                f" change is wanted, delete {record_path(weights.stem)} first"
            )
        file.flush()
        if not looks_like_weights(Path(file.name)):
            # Login pages and error pages come with status 200 too.
            raise _DownloadError("it serves something that is not a file of weights")
    record = Record(name=weights.name, file=path.name, url=download.url, sha256=digest, size=size)
    write_record(weights.stem, record)
    return path


def _receive(url: str, file: IO[bytes], label: str, progress: bool) -> tuple[str, int]:
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
        raise _DownloadError(f"the connection ended after {size:,} of {expected_size:,} bytes")
    return hasher.hexdigest(), size


def _opened(url: str) -> http.client.HTTPResponse:
    try:
        # Addresses come from the registry and open_clip's table, all of them http or https.
        request = urllib.request.Request(url, headers={"User-Agent": "zutis"})  # noqa: S310
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        raise _DownloadError(f"it answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _DownloadError(f"it can't be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _DownloadError(f"it can't be reached: {error}") from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _DownloadError(f"the connection broke: {error}") from error


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
