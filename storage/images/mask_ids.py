"""The name of a mask: whose it is and which pixels it has."""

from __future__ import annotations

import hashlib
from typing import Final

_DIGITS: Final = 32


def mask_id(image_id: str, height: int, width: int, counts: str) -> str:
    """32 hex digits that name a mask wherever it was made.

    Args:
        image_id: sha256 of the image's bytes, hex.
        height, width: of the mask, pixels.
        counts: its COCO run lengths, compressed.
    """
    described = f"{image_id} {height} {width} {counts}".encode("ascii")
    return hashlib.sha256(described).hexdigest()[:_DIGITS]
