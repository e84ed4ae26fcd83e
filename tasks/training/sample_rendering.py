"""Rendering of training samples: read, decode, augment and paste only what is visible.

Follows the ZUTIS reference (`datasets/index_dataset.py`, `base_dataset.py`), which scales, crops,
flips and augments each image as a whole before it cuts the object out. The result is the same if
only the object's box is scaled and augmented, with a margin of the blur's radius, provided that the
contrast uses the mean of the whole crop, which is computed from a reduced image.

Dimensions:
    s     rows and columns of the crop
    h, w  rows, columns of a window of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from storage.shards.samples import ShardSamples
from zutis_model.training.copy_paste import Box, Canvas, View, bounding_box, view
from zutis_model.training.photometric import (
    ColourContext,
    ColourJitter,
    blur_radius,
    gaussian_blur,
    jitter_colours,
    make_grey,
)

# Smallest side of the reduced image from which mean colours are computed.
_CONTEXT_SIDE = 16
_LARGEST_8_BIT = 255
# Reduction factor from which on only every fourth row and column is averaged.
_MANY_TO_ONE = 12


@dataclass(frozen=True, kw_only=True)
class ObjectDraw:
    """The random choices for one object.

    Attributes:
        index: of its sample in the data set; label: the object's category_id.
        scale: of its image.
        fill_first, offset: see `zutis_model.training.copy_paste.view`.
        flip: whether left and right are exchanged.
        jitter: colour jitter of its image; None for none.
        greyscale: whether the image is made grey, after the jitter.
        sigma: of the Gaussian blur, in pixels of the crop; 0 for none.
        position: see `copy_paste.Canvas.paste`; unused for the first object, which is not moved.
        place: of the object among several of its sample; None where samples have one.
    """

    index: int
    label: int
    scale: float
    fill_first: tuple[bool, bool]
    offset: tuple[float, float]
    flip: bool
    jitter: ColourJitter | None
    greyscale: bool
    sigma: float
    position: tuple[float, float]
    place: int | None = None


def render(shards: ShardSamples, draws: Sequence[ObjectDraw], crop: int) -> Canvas:
    """The canvas, a square of side `crop`, with all objects pasted. Where samples have several
    objects, the first draw's image shows all of its own.

    Raises:
        ArtifactError: a sample is damaged.
        StorageError: a shard can't be read.
    """
    first, *others = draws
    canvas = _canvas(shards, first, crop)
    for draw in others:
        found = _object(shards, draw, crop)
        if found is None:
            canvas.skip()
        else:
            canvas.paste(*found, draw.label, draw.position)
    return canvas


def _canvas(shards: ShardSamples, draw: ObjectDraw, crop: int) -> Canvas:
    """The canvas with the first image, its object and its background; ignored outside the image."""
    stored, seen = shards.read(draw.index), _view(shards, draw, crop)
    dtype = np.uint8 if shards.ignore_label <= _LARGEST_8_BIT else np.uint16
    labels = np.full((crop, crop), shards.ignore_label, dtype)
    objects = np.zeros((crop, crop), np.uint8)
    place = _slices(seen.image)
    if draw.place is None:
        objects[place] = seen.labels(shards.decode_object(draw.index, stored))
        labels[place] = np.where(objects[place], draw.label, 0)
        count = 1
    else:
        labels[place] = seen.labels(shards.decode_labels(draw.index, stored.mask))
        own = shards.objects.of_sample(draw.index)
        count = len(own)
        # As in the label map, the first hide the later ones.
        for number, (at, label) in reversed(list(enumerate(own, start=1))):
            mask = seen.labels(shards.decode_object(draw.index, stored, at))
            objects[place][mask & (labels[place] == label)] = number
    whole = Box(0, 0, crop, crop)
    pixels = _augmented(_decoded(shards, draw, stored.jpeg, seen), seen, whole, draw)
    if draw.flip:
        pixels, labels, objects = pixels[..., ::-1].copy(), labels[:, ::-1].copy(), objects[:, ::-1]
    return Canvas(pixels, labels, objects, count)


def _object(
    shards: ShardSamples, draw: ObjectDraw, crop: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]] | None:
    """Pixels [3, h, w] and mask [h, w] of the object's box; None if the crop misses the object."""
    stored, seen = shards.read(draw.index), _view(shards, draw, crop)
    mask = seen.labels(shards.decode_object(draw.index, stored, draw.place))
    box = bounding_box(mask)
    if box is None:
        return None
    mask = mask[_slices(box)]
    box = box.moved(seen.image.top, seen.image.left)
    window = box.with_margin(_blur_radius(draw, crop), crop)
    pixels = _augmented(_decoded(shards, draw, stored.jpeg, seen), seen, window, draw)
    pixels = pixels[:, *_slices(box.moved(-window.top, -window.left))]
    return (pixels[..., ::-1], mask[:, ::-1]) if draw.flip else (pixels, mask)


def _view(shards: ShardSamples, draw: ObjectDraw, crop: int) -> View:
    return view(
        int(shards.heights[draw.index]),
        int(shards.widths[draw.index]),
        crop,
        scale=draw.scale,
        fill_first=draw.fill_first,
        offset=draw.offset,
    )


def _decoded(shards: ShardSamples, draw: ObjectDraw, jpeg: bytes, seen: View) -> Image.Image:
    return shards.decode_image(draw.index, jpeg, least=(seen.height, seen.width))


def _augmented(
    image: Image.Image, seen: View, window: Box, draw: ObjectDraw
) -> npt.NDArray[np.uint8]:
    """The window of the image's crop, uint8 [3, h, w], after all colour augmentation and blur."""
    pixels, visible = _window(image, seen, window)
    if draw.jitter is not None or visible != window:
        context, fill = _colours(image, seen)
        _fill_around(pixels, visible.moved(-window.top, -window.left), fill)
        if draw.jitter is not None:
            jitter_colours(pixels, draw.jitter, context)
    if draw.greyscale:
        make_grey(pixels)
    if draw.sigma:
        pixels = gaussian_blur(pixels, draw.sigma, _blur_radius(draw, seen.size))
    return pixels


def _window(image: Image.Image, seen: View, window: Box) -> tuple[npt.NDArray[np.uint8], Box]:
    """The scaled part of the image in the window, uint8 [3, h, w], and the part's box in the crop.

    Pixels outside the image, if any, are undefined.
    """
    visible = seen.image.intersection(window)
    source, down, right = seen.in_scaled_image(visible), *_ratios(image, seen)
    part = image.resize(
        (visible.width, visible.height),
        Image.Resampling.BILINEAR,
        box=(source.left * right, source.top * down, source.right * right, source.bottom * down),
    )
    pixels = np.empty((3, window.height, window.width), np.uint8)
    place = _slices(visible.moved(-window.top, -window.left))
    pixels[:, *place] = np.asarray(part).transpose(2, 0, 1)
    return pixels, visible


def _fill_around(pixels: npt.NDArray[np.uint8], box: Box, fill: npt.NDArray[np.uint8]) -> None:
    """Fill everything outside the box with a colour, in place."""
    colour = fill[:, None, None]
    pixels[:, : box.top], pixels[:, box.bottom :] = colour, colour
    pixels[:, :, : box.left], pixels[:, :, box.right :] = colour, colour


def _colours(image: Image.Image, seen: View) -> tuple[ColourContext, npt.NDArray[np.uint8]]:
    """Colours that represent the crop, and the image's mean colour, uint8 [3], which fills it.

    The mean is truncated, not rounded, as in the reference.
    """
    small = np.asarray(_reduced(image))
    fill = small.mean(axis=(0, 1)).astype(np.uint8)
    shown, (height, width) = seen.in_scaled_image(seen.image), small.shape[:2]
    rows = slice(shown.top * height // seen.height, -(-shown.bottom * height // seen.height))
    columns = slice(shown.left * width // seen.width, -(-shown.right * width // seen.width))
    colours = small[rows, columns].reshape(-1, 3)
    area = shown.height * shown.width
    weights = np.full(len(colours) + 1, area / len(colours))
    weights[-1] = seen.size**2 - area
    return ColourContext(np.vstack([colours, fill]).T[:, None].copy(), weights), fill


def _reduced(image: Image.Image) -> Image.Image:
    """A reduced image with the mean colours of a large one. If the reduction is large, only every
    fourth row and column is averaged, which is enough for a mean."""
    factor = max(min(image.size) // _CONTEXT_SIDE, 1)
    if factor >= _MANY_TO_ONE:
        size = (image.width // 4, image.height // 4)
        image, factor = image.resize(size, Image.Resampling.NEAREST), factor // 4
    return image.reduce(factor)


def _ratios(image: Image.Image, seen: View) -> tuple[float, float]:
    """Ratios of the decoded image's sides to those of the scaled one: rows, columns."""
    return image.height / seen.height, image.width / seen.width


def _blur_radius(draw: ObjectDraw, crop: int) -> int:
    """Radius of the blur; the reference's kernel has a tenth of the crop's side."""
    return blur_radius(draw.sigma, int(0.1 * crop) // 2)


def _slices(box: Box) -> Any:
    return np.s_[box.top : box.bottom, box.left : box.right]
