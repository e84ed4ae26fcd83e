"""A writer that hashes a file while it is written."""

from __future__ import annotations

import hashlib
import io
from typing import IO, Any

from storage.files.durable_files import sync_file
from storage.files.filesystems import translated_errors


class HashingWriter(io.RawIOBase):
    """A sequential binary writer that counts and hashes what passes through.

    Args:
        raw: where the bytes go; closed with the writer.
        name: path or URI of the file, for the `StorageError` when it can't be written.
    """

    def __init__(self, raw: IO[bytes], name: str = "a file") -> None:
        super().__init__()
        self._raw = raw
        self._name = name
        self._sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if not view.nbytes:
            return 0  # an empty view can't be cast
        view = view.cast("B")
        # Here and not around the caller's block: what else fails in it is not this file's fault.
        with translated_errors("write", self._name):
            self._raw.write(view)
        self._sha256.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()

    def close(self) -> None:
        if self.closed:
            return
        try:
            with translated_errors("write", self._name):
                try:
                    self._raw.flush()
                    sync_file(self._raw)
                finally:
                    self._raw.close()
        finally:
            super().close()
