"""Local cache of remote shards, since training reads each sample many times, in parts.

A copy is in `ZUTIS_CACHE`, else in the user's cache folder, under a name made from the file's
address, size and stamps, so that other content has another copy. It appears there complete or not
at all; two processes that copy the same shard at a time both succeed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

import platformdirs

from storage.files.filesystems import (
    describe,
    display,
    is_local,
    local_path,
    open_binary,
    translated_errors,
)
from storage.files.user_files import user_path

CACHE_VARIABLE = "ZUTIS_CACHE"
# Left free on the disk for other programs.
_SPARE_BYTES = 2_000_000_000
_CHUNK = 1 << 22
_STAMPS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created", "generation")

log = logging.getLogger(__name__)


def cache_folder(kind: str = "shards") -> Path:
    """The folder of the copies, or of another kind of files that can be made again: in
    `ZUTIS_CACHE`, or in the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    base = user_path(named) if named else Path(platformdirs.user_cache_dir("zutis"))
    return base / kind


def local_copy(uri: str) -> str:
    """A local path of the file, copied there if necessary.

    Args:
        uri: of a file; a local one is its own copy.

    Returns:
        A path; or the URI itself where the disk has no room for a copy, or can't be written.

    Raises:
        MissingFileError: there is no such file.
        StorageError: the file system can't be reached.
    """
    if is_local(uri):
        return local_path(uri)
    info = describe(uri)
    facts = [uri, info["size"], *(str(info.get(stamp)) for stamp in _STAMPS)]
    copy = cache_folder() / f"{hashlib.sha256(repr(facts).encode()).hexdigest()}.tar"
    if copy.is_file():
        return str(copy)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(copy.parent).free < (info["size"] or 0) + _SPARE_BYTES:
            log.warning("%s has no room for %s, which is read where it is", copy.parent, uri)
            return uri
        _copy(uri, copy)
    except OSError as error:  # of the local disk: the other side's are translated
        log.warning("%s can't be copied to %s: %s", display(uri), copy.parent, error)
        return uri
    return str(copy)


def _copy(uri: str, target: Path) -> None:
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with part.open("wb") as file, open_binary(uri) as source:
            while chunk := _read(source, uri):
                file.write(chunk)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _read(source: BinaryIO, uri: str) -> bytes:
    with translated_errors("read", uri):
        return source.read(_CHUNK)
