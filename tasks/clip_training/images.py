"""Pictures with captions as a CLIP is trained on them: cut out, flipped and recoloured at random.

Dimensions:
    h, w  rows, columns of a picture
    n     pictures of a batch
    s     rows and columns of what the network sees
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

Pixels = NDArray[np.uint8]

WHOLE: Final = (0.7, 1.0)
"""Smallest and largest cut of pictures that are seen nearly whole."""

_MARGIN: Final = 0.15
"""Around the centre of a thing, of the picture's shorter side."""
_MOST_STRETCH: Final = 1.2
_GAIN, _SHIFT = 0.12, 10.0
"""Of colours: factors of 1 +- the gain for all three, 8-bit steps of +- the shift for each."""

_OTHER_SIDE: Final = {"left": "right", "right": "left"}


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptionedImage:
    """A picture and what people might write under it.

    Attributes:
        pixels: uint8 [h, w, 3], RGB.
        captions: one or more; each tells the truth.
        centres: float [k, 2], (row, column) of each thing that a caption may name.
    """

    pixels: Pixels
    captions: tuple[str, ...]
    centres: NDArray[np.float32]


def caption_batches(
    pictures: Sequence[CaptionedImage],
    batch_size: int,
    image_size: int,
    seed: int,
    cut: tuple[float, float] = WHOLE,
    shortest: float = 0.5,
) -> Iterator[tuple[Pixels, list[str]]]:
    """Batches without end; every picture comes once before any comes again.

    Args:
        pictures: at least `batch_size`.
        batch_size: n.
        image_size: s.
        seed: of the order and of all random changes.
        cut: the smallest and the largest part that is seen, as shares of a picture's shorter
            side. Where things lie further apart, it is larger.
        shortest: how often the shortest caption is taken, 0..1: mostly the bare names. Colours and
            backgrounds are easily seen and tell most pictures of a batch apart, where captions
            name them; what a bare name fits can only be learned from the things themselves.

    Yields:
        uint8 [n, s, s, 3], and a caption for each.

    Raises:
        ValueError: there are fewer pictures than a batch has.
    """
    if len(pictures) < batch_size:
        raise ValueError(f"a batch of {batch_size} needs as many pictures, got {len(pictures)}")
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(pictures))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = [pictures[i] for i in order[start : start + batch_size]]
            views = [_view(picture, image_size, cut, shortest, random) for picture in chosen]
            yield (
                _recoloured(np.stack([view for view, _ in views]), random),
                [caption for _, caption in views],
            )


def _view(
    picture: CaptionedImage,
    image_size: int,
    cut: tuple[float, float],
    shortest: float,
    random: np.random.Generator,
) -> tuple[Pixels, str]:
    """A part of the picture, uint8 [s, s, 3], that a caption fits."""
    top, left, height, width = _cut(picture, cut, random)
    image = Image.fromarray(picture.pixels).resize(
        (image_size, image_size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + width, top + height),
    )
    caption = _caption(picture, shortest, random)
    if random.random() < 0.5:
        return np.asarray(image)[:, ::-1], mirrored(caption)
    return np.asarray(image), caption


def _caption(picture: CaptionedImage, shortest: float, random: np.random.Generator) -> str:
    if random.random() < shortest:
        return min(picture.captions, key=len)
    return picture.captions[int(random.integers(len(picture.captions)))]


def mirrored(caption: str) -> str:
    """The caption of the picture's mirror image."""
    return re.sub(r"\b(left|right)\b", lambda side: _OTHER_SIDE[side[0]], caption)


def _cut(
    picture: CaptionedImage, cut: tuple[float, float], random: np.random.Generator
) -> tuple[float, float, float, float]:
    """(top, left, height, width) of a nearly square part that holds all things.

    A caption that names what can't be seen teaches nothing.
    """
    size = np.array(picture.pixels.shape[:2], dtype=np.float64)
    margin = _MARGIN * size.min()
    # Where there is no thing, an extent that any part holds.
    first = np.maximum(picture.centres.min(axis=0, initial=np.inf) - margin, 0)
    last = np.minimum(picture.centres.max(axis=0, initial=-np.inf) + margin, size)
    side = random.uniform(*cut) * size.min()
    stretch = math.exp(random.uniform(-1, 1) * math.log(_MOST_STRETCH) / 2)
    lengths = np.minimum(np.maximum((side * stretch, side / stretch), last - first), size)
    low, high = np.maximum(last - lengths, 0), np.minimum(first, size - lengths)
    top, left = random.uniform(low, np.maximum(low, high))
    return float(top), float(left), float(lengths[0]), float(lengths[1])


def _recoloured(pictures: Pixels, random: np.random.Generator) -> Pixels:
    """Brighter or darker and a little tinted, each of [n, s, s, 3] by itself."""
    count = len(pictures)
    gain = random.uniform(1 - _GAIN, 1 + _GAIN, (count, 1, 1, 1)).astype(np.float32)
    shift = random.uniform(-_SHIFT, _SHIFT, (count, 1, 1, 3)).astype(np.float32)
    recoloured: Pixels = np.clip(pictures * gain + shift, 0, 255).astype(np.uint8)
    return recoloured
