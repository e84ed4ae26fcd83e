"""The protocols of addresses that are read and written: a short list, and no chains of them.

fsspec has many more, some of which run other programs, look into archives or follow references
that the file's author wrote (`zip://…::…`, `reference://`, `simplecache::…`). An address may come
from an untrusted table.
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
    """The part before `://`, in lower case; `file` for a path.

    Of a chain such as `simplecache::s3://bucket/key` that is more than a protocol's name.
    """
    if uri.startswith("/"):
        return "file"
    protocol, separator, _ = uri.partition("://")
    return protocol.lower() if separator else "file"


def is_supported(uri: str) -> bool:
    """Whether the address is of one of `PROTOCOLS`."""
    return protocol_of(uri) in PROTOCOLS
