"""Which addresses are read and written: a short list of protocols, and no chains of them.

fsspec speaks many more, some of which run other programs, look into archives or follow references
that the file's author wrote (`zip://…::…`, `reference://`, `simplecache::…`). An address may stand
in a table that a stranger has made.
"""

from __future__ import annotations

from typing import Final

# fmt: off
PROTOCOLS: Final = frozenset({
    "file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https",
    "memory",  # of this process: for tests
})
# fmt: on


def protocol_of(uri: str) -> str:
    """What stands before `://`, in lower case; `file` for a path.

    Of a chain such as `simplecache::s3://bucket/key` that is more than a protocol's name.
    """
    if uri.startswith("/"):
        return "file"
    protocol, separator, _ = uri.partition("://")
    return protocol.lower() if separator else "file"


def is_spoken(uri: str) -> bool:
    """Whether the address is of one of `PROTOCOLS`."""
    return protocol_of(uri) in PROTOCOLS
