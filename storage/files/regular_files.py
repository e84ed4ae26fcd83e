"""Opening regular files only: pipes, sockets and devices are refused before they are opened.

A path from a user may be one of these, by mistake (`<(…)` in a shell is a pipe) or on purpose.
Opening a pipe waits for a writer that may never come, and reading a device may never end.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import Final

from storage.access.roots import refuse_open_file, refuse_path

_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe, which can't be read twice and may never end"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnsuitableFileError(OSError):
    """A file that isn't read; `strerror` says why not, and what to do."""


class NotRegularError(UnsuitableFileError):
    """A pipe, socket or device where a file was expected."""


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a local file for reading if it is a regular one; links are followed.

    Raises:
        NotRegularError: it is a pipe, a socket or a device; `strerror` says which, and what to do.
        OutsideRootsError: it lies outside the roots.
        OSError: as `open`.
        ValueError: no file can have this name.
    """
    refuse_path(path)
    _require_regular(os.stat(path), path)  # noqa: PTH116 - once per image of a corpus
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115
    try:
        refuse_open_file(file.fileno(), path)
        _require_regular(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    # The file may have become a pipe since the check.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    what = next((what for is_kind, what in _KINDS if is_kind(status.st_mode)), "no file")
    raise NotRegularError(
        errno.EINVAL, f"it is {what}; write its content to a file, and name that", path
    )
