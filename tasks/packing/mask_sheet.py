"""Drawn pseudo-masks: single ones, and a sheet of examples from a whole data set.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from storage.shards.samples import ShardSamples

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

LONGER_SIDE: Final = 192
"""Longer side of a drawn image, pixels."""

MASK_COLOUR: Final = (255, 214, 0)
"""Colour of a mask's edge: yellow."""

TRUTH_COLOUR: Final = (0, 200, 255)
"""Colour of the ground truth's edge: blue."""

_DIMMED: Final = 0.35
_QUALITY: Final = 88
_COLUMNS, _MOST_ROWS = 6, 5
_GAP, _CAPTION = 6, 18


def draw_mask(
    pixels: Pixels, mask: Mask, truth: Mask | None = None, *, side: int = LONGER_SIDE
) -> Image.Image:
    """An image, dimmed outside the mask, with the mask's edge in yellow.

    Args:
        pixels: uint8 [., ., 3], RGB, of any size.
        mask: bool [h, w].
        truth: ground truth, bool [h, w]; its edge is drawn in blue, over the mask's.
        side: longer side of the drawn image, pixels.
    """
    height, width = mask.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    large = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)).copy()
    inside = _enlarged(mask, size)
    large[~inside] = (large[~inside] * _DIMMED).astype(np.uint8)
    large[_edge(inside)] = MASK_COLOUR
    if truth is not None:
        large[_edge(_enlarged(truth, size))] = TRUTH_COLOUR
    return Image.fromarray(large)


def draw_mask_sheet(samples: ShardSamples) -> bytes:
    """A JPEG with some masks of a data set, spread evenly over its categories.

    With fewer categories than cells, each has several masks, the first one included.

    Raises:
        ArtifactError: a sample is damaged.
        StorageError: a shard can't be read.
    """
    chosen = list(_chosen(samples, _COLUMNS * _MOST_ROWS))
    rows = -(-len(chosen) // _COLUMNS)
    columns = min(_COLUMNS, len(chosen))
    cell = (LONGER_SIDE + _GAP, LONGER_SIDE + _CAPTION + _GAP)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, index in enumerate(chosen):
        left, top = (_GAP + number % columns * cell[0], _GAP + number // columns * cell[1])
        drawn = draw_sample(samples, index)
        sheet.paste(drawn, (left + (LONGER_SIDE - drawn.width) // 2, top + _CAPTION))
        name = samples.categories[int(samples.labels[index])]
        draw.text((left, top), name[:28], "black", font)
    return as_jpeg(sheet)


def as_jpeg(image: Image.Image, quality: int = _QUALITY) -> bytes:
    """An image as JPEG bytes, for a web page."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def _chosen(samples: ShardSamples, most: int) -> Iterator[int]:
    """Indices of at most `most` samples, in the order of categories."""
    by_category = samples.samples_by_category()
    labels = list(by_category)
    places = np.linspace(0, len(labels) - 1, min(most, len(labels))).round().astype(int)
    each = most // len(places)
    for place in places:
        own = by_category[labels[place]]
        yield from own[np.linspace(0, len(own) - 1, min(each, len(own))).round().astype(int)]


def draw_sample(samples: ShardSamples, index: int) -> Image.Image:
    """A sample's image with its mask; see `draw_mask`.

    Raises:
        ArtifactError: the sample is damaged.
        StorageError: its shard can't be read.
    """
    stored = samples.read(index, copy=False)
    mask = samples.decode_object(index, stored)
    image = samples.decode_image(index, stored.jpeg, least=(LONGER_SIDE, LONGER_SIDE))
    return draw_mask(np.asarray(image), mask)


def _enlarged(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another (width, height), with smooth edges."""
    shares = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    enlarged: Mask = np.asarray(shares) > 127
    return enlarged


def _edge(mask: Mask) -> Mask:
    """The outermost pixels of a mask, two wide."""
    edge: Mask = mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1)
    return edge
