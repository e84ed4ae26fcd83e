"""From draws to a training sample's arrays: read, decode, augment and paste, no more than is seen.

Follows the ZUTIS reference (`datasets/index_dataset.py`, `base_dataset.py`), which scales, crops,
flips and augments each picture as a whole before it cuts the object out. The same comes out when
only the object's box is scaled and augmented, with a margin as wide as the blur reads, as long as
contrast knows the mean of the whole crop: a picture of a few hundred pixels tells it that.

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

# Rows and columns, at least, of the small picture that a picture's mean colours are taken from.
_CONTEXT_SIDE = 16
_LARGEST_8_BIT = 255
# Rows and columns that become one, from which on every fourth of them will do.
_MANY_TO_ONE = 12


@dataclass(frozen=True, kw_only=True)
class ObjectDraw:
    """All that chance decides about one object.

    Attributes:
        index: of its sample in the data set; label: that sample's category_id.
        scale: of its picture.
        fill_first, offset: see `zutis_model.training.copy_paste.view`.
        flip: whether left and right are exchanged.
        jitter: of its picture's colours; None for none.
        greyscale: whether colours are taken away, after the jitter.
        sigma: of the Gaussian blur, in pixels of the crop; 0 for none.
        position: see `copy_paste.Canvas.paste`; means nothing for the first object,
            which stays where it is.
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


def render(shards: ShardSamples, draws: Sequence[ObjectDraw], crop: int) -> Canvas:
    """The canvas with all objects on it; of square size `crop`.

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
    """The first picture with all that is around its object; to be ignored where it ends."""
    stored, seen = shards.read(draw.index), _view(shards, draw, crop)
    visible = seen.labels(shards.decode_object(draw.index, stored))
    dtype = np.uint8 if shards.ignore_label <= _LARGEST_8_BIT else np.uint16
    labels = np.full((crop, crop), shards.ignore_label, dtype)
    labels[_slices(seen.image)] = np.where(visible, draw.label, 0)
    whole = Box(0, 0, crop, crop)
    pixels = _augmented(_decoded(shards, draw, stored.jpeg, seen), seen, whole, draw)
    if draw.flip:
        pixels, labels = pixels[..., ::-1].copy(), labels[:, ::-1].copy()
    return Canvas(pixels, labels, labels == draw.label)


def _object(
    shards: ShardSamples, draw: ObjectDraw, crop: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]] | None:
    """Pixels [3, h, w] and mask [h, w] of the object's box, None if the crop shows none of it."""
    stored, seen = shards.read(draw.index), _view(shards, draw, crop)
    mask = seen.labels(shards.decode_object(draw.index, stored))
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
    picture: Image.Image, seen: View, window: Box, draw: ObjectDraw
) -> npt.NDArray[np.uint8]:
    """The window of the picture's crop, uint8 [3, h, w], after all that changes its colours."""
    pixels, visible = _window(picture, seen, window)
    if draw.jitter is not None or visible != window:
        context, fill = _colours(picture, seen)
        _fill_around(pixels, visible.moved(-window.top, -window.left), fill)
        if draw.jitter is not None:
            jitter_colours(pixels, draw.jitter, context)
    if draw.greyscale:
        make_grey(pixels)
    if draw.sigma:
        pixels = gaussian_blur(pixels, draw.sigma, _blur_radius(draw, seen.size))
    return pixels


def _window(picture: Image.Image, seen: View, window: Box) -> tuple[npt.NDArray[np.uint8], Box]:
    """Scale what the window shows of the picture: uint8 [3, h, w], and where in the crop that is.

    The rest is left open, which may be nothing.
    """
    visible = seen.image.intersection(window)
    source, down, right = seen.in_scaled_image(visible), *_ratios(picture, seen)
    part = picture.resize(
        (visible.width, visible.height),
        Image.Resampling.BILINEAR,
        box=(source.left * right, source.top * down, source.right * right, source.bottom * down),
    )
    pixels = np.empty((3, window.height, window.width), np.uint8)
    place = _slices(visible.moved(-window.top, -window.left))
    pixels[:, *place] = np.asarray(part).transpose(2, 0, 1)
    return pixels, visible


def _fill_around(pixels: npt.NDArray[np.uint8], box: Box, fill: npt.NDArray[np.uint8]) -> None:
    """Give everything outside of the box a colour, in place."""
    colour = fill[:, None, None]
    pixels[:, : box.top], pixels[:, box.bottom :] = colour, colour
    pixels[:, :, : box.left], pixels[:, :, box.right :] = colour, colour


def _colours(picture: Image.Image, seen: View) -> tuple[ColourContext, npt.NDArray[np.uint8]]:
    """Colours that stand for the crop; and the picture's mean colour, uint8 [3], which fills it up.

    The mean is cut off, not rounded, as in the reference.
    """
    small = np.asarray(_reduced(picture))
    fill = small.mean(axis=(0, 1)).astype(np.uint8)
    shown, (height, width) = seen.in_scaled_image(seen.image), small.shape[:2]
    rows = slice(shown.top * height // seen.height, -(-shown.bottom * height // seen.height))
    columns = slice(shown.left * width // seen.width, -(-shown.right * width // seen.width))
    colours = small[rows, columns].reshape(-1, 3)
    area = shown.height * shown.width
    weights = np.full(len(colours) + 1, area / len(colours))
    weights[-1] = seen.size**2 - area
    return ColourContext(np.vstack([colours, fill]).T[:, None].copy(), weights), fill


def _reduced(picture: Image.Image) -> Image.Image:
    """A small picture with the mean colours of a large one, from every fourth row and column of
    it where there are many: that many tell a mean as well."""
    factor = max(min(picture.size) // _CONTEXT_SIDE, 1)
    if factor >= _MANY_TO_ONE:
        size = (picture.width // 4, picture.height // 4)
        picture, factor = picture.resize(size, Image.Resampling.NEAREST), factor // 4
    return picture.reduce(factor)


def _ratios(picture: Image.Image, seen: View) -> tuple[float, float]:
    """Rows and columns of the decoded picture for each of the scaled one."""
    return picture.height / seen.height, picture.width / seen.width


def _blur_radius(draw: ObjectDraw, crop: int) -> int:
    """What the blur reads on either side; the reference's kernel has a tenth of the crop's side."""
    return blur_radius(draw.sigma, int(0.1 * crop) // 2)


def _slices(box: Box) -> Any:
    return np.s_[box.top : box.bottom, box.left : box.right]
