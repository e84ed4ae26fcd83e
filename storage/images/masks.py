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


def runs_of(counts: str | list[Any]) -> list[int]:
    """Run lengths of either form; [-1] for invalid ones, such as text that is cut off.

    COCO's text has five bits a character, the lowest first, and differences to the run before the
    last one from the fourth run on.
    """
    if isinstance(counts, list):
        plain = counts and all(isinstance(run, int) and not isinstance(run, bool) for run in counts)
        return counts if plain else [-1]
    bits = (
        np.frombuffer(counts.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int64) - 48
    )
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or bits[-1] & 32:
        return [-1]
    ends = np.flatnonzero(bits & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = np.arange(len(bits)) - np.repeat(starts, ends - starts + 1)
    if digits.max() > 6:  # beyond 32 bits
        return [-1]
    values = np.add.reduceat((bits & 31) << (5 * digits), starts)
    values -= np.where(bits[ends] & 16, np.int64(1) << (5 * (digits[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    runs: list[int] = values.tolist()
    return runs
