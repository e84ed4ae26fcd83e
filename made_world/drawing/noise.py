"""Smooth random fields, from which textures are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from made_world.drawing.rng import Rng

Field = NDArray[np.float32]


def smooth_noise(rng: Rng, height: int, width: int, cells: int) -> Field:
    """Values of about 0 to 1 that vary on the scale of the longer side over `cells`."""
    size = max(height, width)
    coarse = rng.field(
        max(2, round(cells * height / size)) + 1, max(2, round(cells * width / size)) + 1
    )
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def cloudy_noise(rng: Rng, height: int, width: int, cells: int, octaves: int) -> Field:
    """Smooth noise of several scales, each finer and weaker by half; about 0 to 1."""
    total = np.zeros((height, width), dtype=np.float32)
    for octave in range(octaves):
        total += smooth_noise(rng, height, width, cells * 2**octave) * 0.5**octave
    return total / np.float32(2 - 0.5 ** (octaves - 1))


def soft_step(values: Field, edge: float, width: float) -> Field:
    """0 below the edge and 1 above it, smooth over `width`."""
    share = np.clip((values - edge) / max(width, 1e-6) + 0.5, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)
