"""Distractors on backgrounds: lines, scribbles, specks and soft spots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from made_world.drawing.noise import Field
from made_world.drawing.outlines import curve
from made_world.drawing.rng import Rng

_FINE = 2


def add_distractors(rng: Rng, rgb: NDArray[np.float32], most: int) -> None:
    """Add up to `most` sorts of marks, fainter than any object, to an image in place."""
    height, width = rgb.shape[:2]
    for _ in range(rng.whole(0, most)):
        marks = rng.one_of(_MARKS)(rng, height, width)
        towards = 1.0 if rng.chance(0.5) else 0.0
        strength = rng.between(0.08, 0.24)
        rgb += (strength * marks)[..., None] * (np.float32(towards) - rgb)


def _lines(rng: Rng, height: int, width: int) -> Field:
    """Straight scratches from edge to edge or shorter."""
    canvas = Image.new("L", (width * _FINE, height * _FINE))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.whole(1, 4)):
        ends = [rng.between(-0.1, 1.1) * length * _FINE for length in (width, height) * 2]
        draw.line(ends, fill=255, width=rng.whole(1, 3))
    return _averaged(canvas)


def _scribbles(rng: Rng, height: int, width: int) -> Field:
    """Pen strokes that wander and never close."""
    canvas = Image.new("L", (width * _FINE, height * _FINE))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.whole(1, 3)):
        turns = (rng.field(rng.whole(4, 7)) - 0.5) * 2.2 + rng.between(0, 6.28)
        steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.between(0.1, 0.22)
        start = [rng.between(0, 1), rng.between(0, 1)]
        path = curve(np.cumsum(np.concatenate([[start], steps]), axis=0), 6)
        points = (path * [width * _FINE, height * _FINE]).tolist()
        draw.line([(x, y) for x, y in points], fill=255, width=rng.whole(2, 4))
    return _averaged(canvas)


def _specks(rng: Rng, height: int, width: int) -> Field:
    """Dust: dots of a pixel or two."""
    canvas = Image.new("L", (width * _FINE, height * _FINE))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.whole(10, 40)):
        x, y = rng.between(0, width * _FINE), rng.between(0, height * _FINE)
        radius = rng.between(0.8, 2.6)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return _averaged(canvas)


def _spots(rng: Rng, height: int, width: int) -> Field:
    """A few wide spots without an edge."""
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    total = np.zeros((height, width), dtype=np.float32)
    for _ in range(rng.whole(1, 4)):
        radius = max(height, width) * rng.between(0.05, 0.16)
        away = (x - rng.between(0, width)) ** 2 + (y - rng.between(0, height)) ** 2
        total += np.exp(-away / (2 * radius**2), dtype=np.float32)
    return np.minimum(total, np.float32(1))


def _averaged(canvas: Image.Image) -> Field:
    return np.asarray(canvas.reduce(_FINE), dtype=np.float32) / np.float32(255)


_MARKS: Final[tuple[Callable[[Rng, int, int], Field], ...]] = (_lines, _scribbles, _specks, _spots)
