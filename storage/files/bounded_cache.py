"""A folder of small files that can be made again, of a bounded size."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from pathlib import Path
from typing import Final

_KEPT: Final = 0.9
"""Share of the bound that is left when files are removed, so that this is rare."""


class BoundedCache:
    """Files by name, of which those that were used least recently are removed. Thread-safe, and
    several processes may share a folder.

    A file that can't be read or written is none: a full disk or a folder that can't be written
    makes a cache useless, and nothing else.

    Args:
        folder: made when the first file is written.
        most_bytes: of all files together, about.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self._most = most_bytes
        self._size: int | None = None
        self._lock = threading.Lock()

    def get(self, name: str) -> bytes | None:
        """The file's bytes; None where there is none."""
        path = self.folder / name
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep a file, which appears as a whole or not at all."""
        temporary = self.folder / f".{uuid.uuid4().hex}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            temporary.replace(self.folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return
        with self._lock:
            self._size = self._measured() if self._size is None else self._size + len(content)
            if self._size > self._most:
                self._size = self._shrunk()

    def _measured(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _shrunk(self) -> int:
        """The size that is left after the oldest files were removed."""
        files = sorted(self._files())
        size = sum(each for _, each, _ in files)
        for _, each, path in files:
            if size <= _KEPT * self._most:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            size -= each
        return size

    def _files(self) -> list[tuple[int, int, Path]]:
        """Time of last use, size and path of each."""
        found = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        return found
