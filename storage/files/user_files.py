"""Reading users' files whole: regular files only, up to a size limit for each use.

A limit is checked before anything is read, and again while reading: a file system may not know a
file's size, and a file may grow.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from storage.files.filesystems import (
    describe,
    is_local,
    local_path,
    open_binary,
    read_bytes,
    translated_errors,
)
from storage.files.regular_files import UnsuitableFileError, open_regular
from storage.web.requests import TooLongError

_CHUNK_BYTES: Final = 1 << 24
# Remote files up to this limit are read in one request, without one for their size before.
_SMALL_BYTES: Final = 1 << 28


@dataclass(frozen=True)
class Limit:
    """The maximal size of a kind of file.

    Attributes:
        what: the kind, with its article, for messages.
        max_bytes: of the largest that is read.
    """

    what: str
    max_bytes: int


VOCABULARY: Final = Limit("a vocabulary", 8 << 20)
"""65,534 names of 120 letters."""
SETTINGS: Final = Limit("a file of settings", 1 << 20)
ANNOTATIONS: Final = Limit("a JSON file of images", 4 << 30)
"""Those of COCO and LVIS have 0.5 to 1.5 GB."""
FILE_LIST: Final = Limit("a list of a data set's files", 64 << 20)
MODEL_CONFIG: Final = Limit("a model's configuration", 16 << 20)
RECORD: Final = Limit("a record of weights", 16 << 20)
WEIGHTS: Final = Limit("a file of weights", 64 << 30)
"""The largest CLIPs have 10 GB."""
TEXT_EMBEDDINGS: Final = Limit("a file of text embeddings", 1 << 30)
"""65,535 rows of 4,096 numbers."""
IMAGE: Final = Limit("an image", 512 << 20)
MANIFEST: Final = Limit("a manifest", 256 << 20)
DATASET_VOCABULARY: Final = Limit("a data set's vocabulary", 256 << 20)


class TooLargeError(UnsuitableFileError):
    """A file that is larger than the limit of its use."""


def user_path(text: str) -> Path:
    """The path that a user has written, `~` and `~name` at its beginning replaced by home folders.

    `~name` of an unknown user stays as it is, where `Path.expanduser` would fail.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111


def is_file(path: str | Path) -> bool:
    """Whether a file is there; False where that can't be found out, as of a name that is too long,
    where pathlib raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; as `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def read_path(path: str | Path, limit: Limit) -> bytes:
    """A local file's bytes.

    Raises:
        UnsuitableFileError: it is a pipe, a socket or a device, or larger than the limit.
        OSError: it is missing or can't be read; `strerror` of each says why.
        ValueError: no file can have this name.
    """
    with open_limited(path, limit) as file:
        return b"".join(_chunks(file, limit, path))


def open_limited(path: str | Path, limit: Limit) -> io.BufferedReader:
    """A local file, opened after a check of its kind and size; raises as `read_path`."""
    file = open_regular(path)
    try:
        _check_size(os.fstat(file.fileno()).st_size, limit, path)
    except BaseException:
        file.close()
        raise
    return file


def read_uri(uri: str, limit: Limit) -> bytes:
    """The bytes of a file, local or remote.

    Raises:
        StorageError: it can't be read, is a pipe, socket or device, or larger than the limit.
    """
    return b"".join(iter_chunks(uri, limit))


def iter_chunks(uri: str, limit: Limit) -> Iterator[bytes]:
    """The same in pieces, for readers that may stop before the end."""
    if is_local(uri):
        with translated_errors("read", uri), open_limited(local_path(uri), limit) as file:
            yield from _chunks(file, limit, uri)
        return
    size = None if limit.max_bytes <= _SMALL_BYTES else _remote_size(uri, limit)
    if size is None:
        yield _at_once(uri, limit)
        return
    with translated_errors("read", uri), open_binary(uri) as file:
        yield from _chunks(file, limit, uri)


def _remote_size(uri: str, limit: Limit) -> int | None:
    info = describe(uri)
    with translated_errors("read", uri):
        if info.get("type") == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), uri)
        size: int | None = info.get("size")
        _check_size(size or 0, limit, uri)
    return size


def _at_once(uri: str, limit: Limit) -> bytes:
    with translated_errors("read", uri):
        try:
            return read_bytes(uri, at_most=limit.max_bytes)
        except TooLongError:
            raise _too_large(limit, uri) from None


def _chunks(file: IO[bytes], limit: Limit, name: str | Path) -> Iterator[bytes]:
    size = 0
    while chunk := file.read(min(_CHUNK_BYTES, limit.max_bytes + 1 - size)):
        size += len(chunk)
        _check_size(size, limit, name)
        yield chunk


def _check_size(size: int, limit: Limit, name: str | Path) -> None:
    if size > limit.max_bytes:
        raise _too_large(limit, name)


def _too_large(limit: Limit, name: str | Path) -> TooLargeError:
    return TooLargeError(
        errno.EFBIG,
        f"it has more than the {limit.max_bytes / 2**20:,.6g} MB that {limit.what} may have; name"
        " the right file, or make this one smaller",
        str(name),
    )
