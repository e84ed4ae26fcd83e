"""Small images with one object of a known colour, for tests of the stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.networks.fakes import COLOURS


def coloured_image(colour: str, seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A grey image (height, width) with a rectangle of one colour, placed by the seed."""
    rng = np.random.default_rng(seed)
    height, width = size
    pixels = np.full((height, width, 3), 40, dtype=np.uint8)
    top, left = rng.integers(4, height // 4), rng.integers(4, width // 4)
    bottom, right = rng.integers(height // 2, height - 4), rng.integers(width // 2, width - 4)
    pixels[top:bottom, left:right] = np.round(np.array(COLOURS[colour]) * 200 + 40)
    return Image.fromarray(pixels)


def write_corpus(folder: Path, colours: list[str], *, each: int, first_seed: int = 0) -> list[Path]:
    """`each` JPEGs of every colour, named COLOUR-SEED.jpg; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for colour in colours:
        for seed in range(first_seed, first_seed + each):
            path = folder / f"{colour}-{seed:03d}.jpg"
            coloured_image(colour, seed).save(path, quality=92)
            paths.append(path)
    return paths
