"""The first bytes of many files at a time."""

from __future__ import annotations

from collections.abc import Sequence

from storage.access.roots import OutsideRootsError
from storage.errors.exceptions import StorageError
from storage.files.file_kinds import is_web
from storage.files.filesystems import (
    UnreachableError,
    is_local,
    local_path,
    read_remote_range,
    resolve,
    translated_errors,
)
from storage.files.regular_files import open_regular


def read_heads(uris: Sequence[str], length: int) -> list[bytes]:
    """The first `length` bytes of files, fewer of shorter ones; of remote files in one batch.

    Args:
        uris: all local, or all of one remote file system.
        length: >= 1.

    Returns:
        One item per file, in order; empty for unreadable files and for irregular ones.

    Raises:
        UnreachableError: the file system can't be used at all.
    """
    if not uris or is_local(uris[0]):
        return [_local_head(local_path(uri), length) for uri in uris]
    if is_web(uris[0]):
        return [_web_head(uri, length) for uri in uris]
    file_system, _ = resolve(uris[0])
    paths = [resolve(uri)[1] for uri in uris]
    starts, ends = [0] * len(paths), [length] * len(paths)
    with translated_errors("read", uris[0]):
        heads = file_system.cat_ranges(paths, starts, ends, on_error="return")
    return [_head_or_nothing(*pair) for pair in zip(uris, heads, strict=True)]


def _local_head(path: str, length: int) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(length)
    except (OSError, ValueError, OutsideRootsError):  # ValueError: no file can have this name
        return b""


def _web_head(uri: str, length: int) -> bytes:
    try:
        with translated_errors("read", uri):
            return read_remote_range(uri, 0, length)
    except UnreachableError:
        raise
    except (StorageError, OutsideRootsError):  # the latter of a server that redirects
        return b""


def _head_or_nothing(uri: str, head: bytes | Exception) -> bytes:
    if not isinstance(head, Exception):
        return head
    try:
        with translated_errors("read", uri):
            raise head
    except UnreachableError:
        raise
    except StorageError:
        return b""
