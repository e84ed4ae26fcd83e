"""Images as data URIs, for HTML pages and the UI's artifacts."""

from __future__ import annotations

import base64
from typing import Final

_KINDS: Final = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def data_uri(image: bytes) -> str:
    """A PNG or JPEG file as a data URI.

    Raises:
        ValueError: it is neither.
    """
    for start, kind in _KINDS.items():
        if image.startswith(start):
            return f"data:{kind};base64,{base64.b64encode(image).decode('ascii')}"
    raise ValueError(f"An image is neither a PNG nor a JPEG file; it starts with {image[:8]!r}.")
