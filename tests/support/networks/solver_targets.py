"""The bilateral solver's targets of the parity fixtures."""

from __future__ import annotations

import zlib

import numpy as np

EDGE_CASES = ("all_zero", "all_one", "large", "two_boxes")


def target_mask(name: str, h: int, w: int) -> np.ndarray:
    """An ellipse that depends on the name, 8 % of the pixels flipped: uint8 [h, w]."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    cy, cx = h * rng.uniform(0.4, 0.6), w * rng.uniform(0.4, 0.6)
    ry, rx = h * rng.uniform(0.25, 0.35), w * rng.uniform(0.25, 0.35)
    y, x = np.arange(h)[:, None], np.arange(w)[None, :]
    inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1.0
    return (inside ^ (rng.random((h, w)) < 0.08)).astype(np.uint8)


def edge_target(case: str, h: int, w: int) -> np.ndarray:
    """One of `EDGE_CASES`: uint8 [h, w]."""
    target = np.zeros((h, w), dtype=np.uint8)
    if case == "all_one":
        target[:] = 1
    elif case == "large":
        target[:, w // 4 :] = 1
    elif case == "two_boxes":
        target[40:140, 40:200] = 1
        target[180:260, 280:420] = 1
        target[70:110, 90:150] = 0
    return target
