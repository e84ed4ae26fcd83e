"""Errors about one file as rejects; errors about the file system pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from storage.access.roots import OutsideRootsError
from storage.errors.exceptions import ImageRejected, StorageError
from storage.errors.reject_reasons import (
    CHANGED,
    FILE_TOO_LARGE,
    MISSING,
    OUTSIDE_ROOTS,
    UNREADABLE,
)
from storage.files.file_kinds import is_web
from storage.files.filesystems import (
    MissingFileError,
    ShortReadError,
    TransientError,
    UnreachableError,
    translated_errors,
)
from storage.web.requests import TooLongError


@contextmanager
def rejected_where_unreadable(uri: str) -> Iterator[None]:
    """Turns errors about one file into rejects; those about the file system pass."""
    try:
        with translated_errors("read", uri):
            yield
    except MissingFileError as error:
        raise ImageRejected(MISSING, str(error)) from error
    except OutsideRootsError as error:  # a link, or what a server redirects to
        raise ImageRejected(OUTSIDE_ROOTS, str(error)) from error
    except ShortReadError as error:
        raise ImageRejected(CHANGED, str(error)) from error
    except TransientError as error:
        raise ImageRejected(error.reason, str(error)) from error
    except TooLongError as error:
        raise ImageRejected(FILE_TOO_LARGE, str(error)) from error
    except UnreachableError as error:
        # Each web address has a server of its own; an object store that is down is no reason to
        # record its images as bad.
        if not is_web(uri):
            raise
        raise ImageRejected(UNREADABLE, str(error)) from error
    except StorageError as error:
        raise ImageRejected(UNREADABLE, str(error)) from error
