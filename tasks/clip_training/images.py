"""Training batches for CLIP: images with captions, cropped, flipped and recoloured at random.

Dimensions:
    h, w  rows, columns of an image
    n     images of a batch
    s     rows and columns of a crop, as the network sees it
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zutis_model.regions.views import region_views

Pixels = NDArray[np.uint8]

WHOLE: Final = (0.7, 1.0)
"""Smallest and largest crop where images are seen nearly whole; see `caption_batches`."""

_MARGIN: Final = 0.15
"""Around the centre of an object, as a share of the image's shorter side."""
_MOST_STRETCH: Final = 1.2
_GAIN, _SHIFT = 0.12, 10.0
"""Of colours: factors of 1 +- the gain for all three, 8-bit steps of +- the shift for each."""

_RADII: Final = (0.2, 0.42)
"""Of the ellipse that stands for an object's outline, as shares of the image's shorter side."""
_MARGINS: Final = (0.05, 0.5)
"""Of a region's view, see `region_views`."""

_OTHER_SIDE: Final = {"left": "right", "right": "left"}


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptionedImage:
    """An image with captions.

    Attributes:
        pixels: uint8 [h, w, 3], RGB.
        captions: one or more; each describes the image correctly.
        centres: float [k, 2], (row, column) of each object that a caption may name.
    """

    pixels: Pixels
    captions: tuple[str, ...]
    centres: NDArray[np.float32]


def caption_batches(
    images: Sequence[CaptionedImage],
    batch_size: int,
    image_size: int,
    seed: int,
    crop: tuple[float, float] = WHOLE,
    shortest: float = 0.5,
    regions: float = 0.0,
) -> Iterator[tuple[Pixels, list[str]]]:
    """Endless batches; every image is used once per epoch.

    Args:
        images: at least `batch_size`.
        batch_size: n.
        image_size: s.
        seed: of the order and of all random changes.
        crop: the smallest and the largest side of a crop, as shares of an image's shorter side.
            Where objects are further apart, the crop is larger.
        shortest: how often the shortest caption is chosen, 0..1: mostly bare names. Where captions
            name colours and backgrounds, which are easily seen, these distinguish most images of
            a batch; what a bare name means can only be learned from the objects themselves.
        regions: how often an image of one object is shown as regions of labels are, its
            surroundings blurred and grey (`zutis_model.regions.views`), 0..1. An ellipse of random
            size about the object's centre stands for its outline.

    Yields:
        uint8 [n, s, s, 3], and a caption for each.

    Raises:
        ValueError: there are fewer images than a batch has.
    """
    if len(images) < batch_size:
        raise ValueError(f"a batch of {batch_size} needs as many images, got {len(images)}")
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(images))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = [images[i] for i in order[start : start + batch_size]]
            views = [
                _region(image, image_size, random)
                if regions and len(image.centres) == 1 and random.random() < regions
                else _view(image, image_size, crop, shortest, random)
                for image in chosen
            ]
            yield (
                _recoloured(np.stack([view for view, _ in views]), random),
                [caption for _, caption in views],
            )


def _view(
    image: CaptionedImage,
    image_size: int,
    crop: tuple[float, float],
    shortest: float,
    random: np.random.Generator,
) -> tuple[Pixels, str]:
    """A crop of the image, uint8 [s, s, 3], and a caption that fits it."""
    top, left, height, width = _crop_box(image, crop, random)
    view = Image.fromarray(image.pixels).resize(
        (image_size, image_size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + width, top + height),
    )
    caption = _caption(image, shortest, random)
    if random.random() < 0.5:
        return np.asarray(view)[:, ::-1], mirrored(caption)
    return np.asarray(view), caption


def _region(
    image: CaptionedImage, image_size: int, random: np.random.Generator
) -> tuple[Pixels, str]:
    """The image's one object among faint surroundings, uint8 [s, s, 3], and its bare name.

    Longer captions speak of colours and backgrounds, which are faint here.
    """
    height, width = image.pixels.shape[:2]
    row, column = image.centres[0]
    tall, wide = random.uniform(*_RADII, 2) * min(height, width)
    down, right = (np.arange(height) - row) / tall, (np.arange(width) - column) / wide
    ellipse = down[:, None] ** 2 + right[None, :] ** 2 <= 1
    margin = float(random.uniform(*_MARGINS))
    view = region_views(Image.fromarray(image.pixels), ellipse, image_size, (margin,))[0]
    if random.random() < 0.5:
        view = view[:, ::-1]
    return view, min(image.captions, key=len)


def _caption(image: CaptionedImage, shortest: float, random: np.random.Generator) -> str:
    if random.random() < shortest:
        return min(image.captions, key=len)
    return image.captions[int(random.integers(len(image.captions)))]


def mirrored(caption: str) -> str:
    """The caption of the mirrored image: left and right are swapped."""
    return re.sub(r"\b(left|right)\b", lambda side: _OTHER_SIDE[side[0]], caption)


def _crop_box(
    image: CaptionedImage, crop: tuple[float, float], random: np.random.Generator
) -> tuple[float, float, float, float]:
    """(top, left, height, width) of a nearly square crop that contains all objects.

    A caption that names an invisible object teaches nothing.
    """
    size = np.array(image.pixels.shape[:2], dtype=np.float64)
    margin = _MARGIN * size.min()
    # Without objects, an extent that any crop contains.
    first = np.maximum(image.centres.min(axis=0, initial=np.inf) - margin, 0)
    last = np.minimum(image.centres.max(axis=0, initial=-np.inf) + margin, size)
    side = random.uniform(*crop) * size.min()
    stretch = math.exp(random.uniform(-1, 1) * math.log(_MOST_STRETCH) / 2)
    lengths = np.minimum(np.maximum((side * stretch, side / stretch), last - first), size)
    low, high = np.maximum(last - lengths, 0), np.minimum(first, size - lengths)
    top, left = random.uniform(low, np.maximum(low, high))
    return float(top), float(left), float(lengths[0]), float(lengths[1])


def _recoloured(images: Pixels, random: np.random.Generator) -> Pixels:
    """Brighter or darker and a little tinted, each of [n, s, s, 3] by itself."""
    count = len(images)
    gain = random.uniform(1 - _GAIN, 1 + _GAIN, (count, 1, 1, 1)).astype(np.float32)
    shift = random.uniform(-_SHIFT, _SHIFT, (count, 1, 1, 3)).astype(np.float32)
    recoloured: Pixels = np.clip(images * gain + shift, 0, 255).astype(np.uint8)
    return recoloured
