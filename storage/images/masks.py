"""Masks as records have them: a name, and COCO run lengths that become pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

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


def run_lengths(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask, bool [h, w]: its size, and the counts as text."""
    from pycocotools.mask import encode

    counts: bytes = encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return {"size": list(mask.shape), "counts": counts.decode("ascii")}


def run_length_pixels(encoded: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """The mask of such run lengths, bool [h, w]."""
    from pycocotools.mask import decode

    pixels: npt.NDArray[np.uint8] = decode(dict(encoded))
    return pixels.view(np.bool_)


def mask_pixels(row: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """The mask of a row with height, width and counts, bool [height, width]."""
    return run_length_pixels({"size": [row["height"], row["width"]], "counts": row["counts"]})
