"""Other places of published weights: a folder on this machine, or a web server that mirrors them.

What comes from there is checked as what comes from the publisher: the digest that is known, or that
the first fetch has recorded, is binding.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote, unquote, urlsplit

from storage.errors.exceptions import WeightsError
from storage.files.filesystems import display
from storage.files.regular_files import open_regular
from storage.files.user_files import is_folder, user_path
from storage.web.transfers import DownloadError, receive
from storage.weights.registry import Download, PublishedWeights

_OF_HUB = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")


def is_address(source: str) -> bool:
    """Whether a place is a web server's, not a folder's."""
    return urlsplit(source).scheme in ("http", "https")


def checked_source(source: str) -> str:
    """The folder or address as `places_of` takes it.

    Raises:
        WeightsError: there is no such folder.
    """
    if is_address(source):
        return source.rstrip("/")
    folder = user_path(source)
    if not is_folder(folder):
        raise WeightsError(
            f"There is no folder {display(source)} to fetch weights from: name one, or the "
            "address of a mirror, https://…."
        )
    return str(folder.absolute())


def places_of(source: str, weights: PublishedWeights, download: Download) -> list[str]:
    """Paths or addresses at which a file of weights may lie in another place.

    It may be called as in zutis's own folder of weights, as at the publisher's, or lie in its
    repository's folder, `OWNER/NAME/FILE`, as on the hub.
    """
    path = unquote(urlsplit(download.url).path)
    names = [f"{weights.stem}{download.suffix}"]
    if match := _OF_HUB.fullmatch(path):
        if is_address(source):
            names.append(f"{match['repository']}/resolve/main/{match['file']}")
        names.append(f"{match['repository']}/{match['file']}")
    else:
        names.append(PurePosixPath(path).name)
    return list(dict.fromkeys(within(source, name) for name in names))


def within(source: str, name: str) -> str:
    """The place of a name, with slashes, in a folder or at an address."""
    return f"{source}/{quote(name)}" if is_address(source) else str(Path(source, name))


def receive_from(place: str, file: IO[bytes], label: str, progress: bool) -> tuple[str, int]:
    """Copy a file from a path or an address; returns its sha256 and size in bytes.

    Raises:
        DownloadError: it is not there, or can't be read.
        OSError: the file can't be written.
    """
    if is_address(place):
        return receive(place, file, label, progress)
    try:
        source = open_regular(place)
    except OSError as error:
        raise DownloadError(f"it can't be read: {error.strerror}") from error
    with source:
        shutil.copyfileobj(source, file, 1 << 20)
    file.flush()
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return digest, file.tell()
