"""A file that is hashed while it is written."""

from __future__ import annotations

import hashlib
import io

from storage.files.hashing_writer import HashingWriter


def test_written_bytes_are_counted_and_hashed():
    raw = io.BytesIO()
    raw.close = lambda: None  # type: ignore[method-assign]
    with HashingWriter(raw) as writer:
        assert [writer.write(piece) for piece in (b"ab", bytearray(b"c"), memoryview(b""))] == [
            2, 1, 0,
        ]  # fmt: skip
        assert writer.write(memoryview(b"0123").cast("H")) == 4
        assert writer.tell() == 7
    assert raw.getvalue() == b"abc0123"
    assert (writer.size, writer.hexdigest()) == (7, hashlib.sha256(b"abc0123").hexdigest())
