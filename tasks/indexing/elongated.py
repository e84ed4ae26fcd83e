"""Images so long that CLIP's central square leaves out much of them, and the squares that don't."""

from __future__ import annotations

import math

import numpy as np

# Sides of an image beyond which the central square leaves out a third of it and more.
_LONG, _SHORT = 3, 2
# Squares along the most elongated images: each takes memory while they are read, and time.
_MOST_SQUARES = 32


def is_elongated(height: np.ndarray, width: np.ndarray) -> np.ndarray:
    """bool [n]: images beyond 1.5 : 1, by more than what whole pixels make of 3 : 2.

    Args:
        height, width: int [n], pixels.
    """
    return np.asarray(_SHORT * (np.maximum(height, width) - 1) > _LONG * np.minimum(height, width))


def crop_boxes(height: int, width: int, *, central: bool = False) -> list[tuple[int, int, int]]:
    """Squares along the longer side of an image: left, top, side, in pixels.

    They are evenly spaced from one end to the other, half a square apart or less, so that whatever
    is no longer than half a square is whole in one of them; of images beyond 16 : 1 farther.

    Args:
        height, width: pixels.
        central: with the square in the middle too, which most CLIPs see anyway.
    """
    short, rest = min(height, width), abs(height - width)
    count = min(_MOST_SQUARES, math.ceil(2 * rest / short) + 1)
    starts = [round(n * rest / (count - 1)) for n in range(count) if 2 * n != count - 1]
    if central:
        starts = sorted([*starts, rest // 2])
    if height > width:
        return [(0, start, short) for start in starts]
    return [(start, 0, short) for start in starts]
