"""Durable and atomic writing of local files."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import uuid
from pathlib import Path
from typing import IO

CHUNK = 1 << 22
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def link_into_place(path: Path, text: bytes) -> bool:
    """Atomic and exclusive creation on a local disk: a full temporary file, then a hard link."""
    make_folder(path.parent)
    # Named as an attempt, so that gc finds what a killed process leaves.
    temporary = path.with_name(f"attempt-{uuid.uuid4().hex[:12]}.json")
    try:
        with temporary.open("wb") as file:
            file.write(text)
            file.flush()
            sync_file(file)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: a rename is atomic, but not exclusive
            if path.exists():
                return False
            temporary.replace(path)
            return path.read_bytes() == text
        return True
    finally:
        temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK)
        writer.flush()
        sync_file(writer)


def make_folder(path: Path) -> None:
    """Like `mkdir -p`, also while another process sweeps an attempt and its key's empty folder."""
    for _ in range(3):
        with contextlib.suppress(FileNotFoundError):
            path.mkdir(parents=True, exist_ok=True)
            return
    path.mkdir(parents=True, exist_ok=True)


def sync_file(file: IO[bytes]) -> None:
    """Flush the file to disk; an error of a full disk may come only here."""
    try:
        descriptor = file.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return  # an object store's file, which closing makes durable
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
