"""Irregular files: pipes, sockets, devices, and files of zeros beyond every size limit."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

HUGE = 100 << 30
"""Bytes of a sparse file: more than any limit, and nothing on the disk."""


def make_pipe(path: Path) -> None:
    """A pipe without a writer: opening it blocks for ever."""
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    """A socket; its path may have only some hundred bytes."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def make_device(path: Path) -> None:
    """A link to a device that never ends."""
    path.symlink_to("/dev/zero")


def make_folder(path: Path) -> None:
    """A folder where a file is expected."""
    path.mkdir()


def make_huge(path: Path, head: bytes = b"") -> None:
    """A file of zeros after its first bytes, `HUGE`."""
    path.write_bytes(head)
    os.truncate(path, HUGE)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": make_pipe,
    "socket": make_socket,
    "device": make_device,
    "folder": make_folder,
    "huge": make_huge,
}
