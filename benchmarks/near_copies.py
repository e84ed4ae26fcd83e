"""Near-duplicates of images, made in the ways in which images are copied."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

Change = Callable[[Image.Image, np.random.Generator], bytes]

_LEAST_CROP = 0.8  # of each side
_BRIGHTNESS = 0.3


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _crop(image: Image.Image, rng: np.random.Generator, least: float = _LEAST_CROP) -> Image.Image:
    """A crop of any place, of the least share of one side and at least that of the other."""
    shares = rng.permutation([least, rng.uniform(least, 1)])
    width, height = (round(side * share) for side, share in zip(image.size, shares, strict=True))
    left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return image.crop((int(left), int(top), int(left) + width, int(top) + height))


def _brightened(image: Image.Image, factor: float) -> Image.Image:
    pixels = np.asarray(image, np.float32) * factor
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def _quarter(image: Image.Image) -> Image.Image:
    """A quarter of each side."""
    return image.resize((max(16, image.width // 4), max(16, image.height // 4)))


def _several(image: Image.Image, rng: np.random.Generator) -> bytes:
    changed = ImageOps.mirror(_crop(image, rng, 0.85))
    return _jpeg(_brightened(changed, rng.uniform(0.8, 1.2)), 50)


CHANGES: dict[str, Change] = {
    "crop": lambda image, rng: _jpeg(_crop(image, rng)),
    "jpeg_30": lambda image, rng: _jpeg(image, 30),
    "brighter": lambda image, rng: _jpeg(_brightened(image, 1 + _BRIGHTNESS)),
    "darker": lambda image, rng: _jpeg(_brightened(image, 1 - _BRIGHTNESS)),
    "mirrored": lambda image, rng: _jpeg(ImageOps.mirror(image)),
    "quarter": lambda image, rng: _jpeg(_quarter(image)),
}
"""Each gives a JPEG file of an RGB image: a crop to 80 % of one side and 80 to 100 % of the other,
JPEG of quality 30, 30 % brighter and darker, mirrored left to right, a quarter of each side."""

SEVERAL = _several
"""All of them at once, each weaker."""
