"""Run lengths of masks in reading order, as tools other than COCO's have them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_BITS_OF_LENGTHS: Final = (3, 4, 8, 16)
_BITS_OF_VALUES: Final = 8
_CHANNELS: Final = 4


def reading_order_runs(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of runs of a mask, bool [h, w], row by row: background and mask in turns; the first
    is background, and 0 where the mask begins at once."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def brush_bytes(mask: npt.NDArray[np.bool_]) -> list[int]:
    """A mask, bool [h, w], as the bytes of Label Studio's brush: run lengths of an RGBA image whose
    channels are all 255 in the mask and 0 beside it, in the form of @thi.ng/rle-pack.

    That is: the number of values in 32 bits; the bits of a value less one in 5; the bits of four
    sorts of lengths less one in 4 each; then for each run a 1, its sort of length in 2 bits, its
    length less one, and its value.
    """
    parts = [f"{mask.size * _CHANNELS:032b}", f"{_BITS_OF_VALUES - 1:05b}"]
    parts += [f"{bits - 1:04b}" for bits in _BITS_OF_LENGTHS]
    for place, run in enumerate(reading_order_runs(mask)):
        value = 255 * (place % 2)
        left = run * _CHANNELS
        while left:
            part = min(left, 1 << _BITS_OF_LENGTHS[-1])
            sort = next(n for n, bits in enumerate(_BITS_OF_LENGTHS) if part <= 1 << bits)
            parts.append(f"1{sort:02b}{part - 1:0{_BITS_OF_LENGTHS[sort]}b}{value:08b}")
            left -= part
    bits = "".join(parts)
    size = -(-len(bits) // 8)
    return list(int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big"))
