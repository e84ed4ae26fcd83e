"""Elongated images, of which CLIP's centre crop misses much, and the crops that cover them."""

from __future__ import annotations

import math

import numpy as np

# Ratio of sides beyond which the centre crop misses a third of the image or more.
_LONG, _SHORT = 3, 2
# Limit of crops along an image: each costs time, and memory while the image is read.
_MOST_SQUARES = 32


def is_elongated(height: np.ndarray, width: np.ndarray) -> np.ndarray:
    """bool [n]: images beyond 1.5 : 1, with a tolerance for sides rounded to whole pixels.

    Args:
        height, width: int [n], pixels.
    """
    return np.asarray(_SHORT * (np.maximum(height, width) - 1) > _LONG * np.minimum(height, width))


def crop_boxes(height: int, width: int, *, central: bool = False) -> list[tuple[int, int, int]]:
    """Square crops along the longer side of an image: left, top, side, in pixels.

    They are evenly spaced from end to end, at most half a square apart, so that an object of up to
    half a square is whole in one of them; along images beyond 16 : 1 they are further apart.

    Args:
        height, width: pixels.
        central: include the centre crop, which most CLIPs see anyway.
    """
    short, rest = min(height, width), abs(height - width)
    count = min(_MOST_SQUARES, math.ceil(2 * rest / short) + 1)
    starts = [round(n * rest / (count - 1)) for n in range(count) if 2 * n != count - 1]
    if central:
        starts = sorted([*starts, rest // 2])
    if height > width:
        return [(0, start, short) for start in starts]
    return [(start, 0, short) for start in starts]
