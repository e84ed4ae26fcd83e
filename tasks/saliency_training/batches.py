"""Training batches for SelfMask: images with masks, cropped, flipped and recoloured at random.

Views are `parts`, large crops with most of an object, or `scaled`, those of the reference
(github.com/NoelShin/selfmask, `datasets/duts.py` and `base_dataset.py`): the whole image, resized
to a square of 0.1 to 1 times the input size, at the top left, surrounded by its mean colour.
Both are flipped and recoloured; the reference has stronger colour jitter, and blur.

Dimensions:
    h, w  rows, columns of an image
    n     images of a batch
    s     rows and columns of the network's input
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

Views = Literal["parts", "scaled"]

_PATCH: Final = 8
_SMALLEST_SCALE: Final = 0.1
_SMALLEST_CROP: Final = 0.5
"""Smallest crop, as a share of the image's shorter side."""
_MOST_STRETCH: Final = 1.3
_LEAST_OF_MASK: Final = 0.6
_TRIES: Final = 6
_BRIGHTNESS, _CONTRAST, _SATURATION, _TINT = 0.25, 0.25, 0.3, 0.06
_GREY_SHARE: Final = 0.05
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def selfmask_batches(
    images: Sequence[Pixels],
    masks: Sequence[Mask],
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    views: Views = "parts",
) -> Iterator[tuple[Pixels, Mask]]:
    """Endless batches; every image is used once per epoch.

    Args:
        images: one or more of uint8 [h, w, 3], RGB. If they are fewer than a batch, it has several
            views of the same images.
        masks: as many of bool [h, w].
        batch_size: n.
        image_size: s.
        seed: of the order and the augmentation.
        views: parts or scaled.

    Yields:
        uint8 [n, s, s, 3], and bool [n, s, s].

    Raises:
        ValueError: there is no image, images and masks differ in number or size, or `views` is
            unknown.
    """
    if views not in get_args(Views):
        raise ValueError(f"views must be parts or scaled, got {views!r}")
    view_of = _scaled if views == "scaled" else _view
    if not len(images) or len(images) != len(masks):
        raise ValueError(f"expected as many masks as images, got {len(masks)}, {len(images)}")
    for pixels, mask in zip(images, masks, strict=True):
        if pixels.shape[:2] != mask.shape:
            raise ValueError(f"an image {pixels.shape} and its mask {mask.shape} differ in size")
    random = np.random.default_rng(seed)
    order = _endless_order(len(images), random)
    while True:
        seen = [
            view_of(images[at], masks[at], image_size, random)
            for at in (next(order) for _ in range(batch_size))
        ]
        yield (
            recoloured(np.stack([pixels for pixels, _ in seen]), random),
            np.stack([mask for _, mask in seen]),
        )


def size_for_whole_images(image_size: int) -> int:
    """Shorter side, in pixels, at which a network trained on `parts` should see whole images.

    Crops are resized to the network's input, so that objects are larger in training than in whole
    images of that size; at the returned size they are about equal (Touvron et al. 2019).
    """
    mean_crop = (1 + _SMALLEST_CROP) / 2
    return _PATCH * round(image_size / mean_crop / _PATCH)


def _endless_order(count: int, random: np.random.Generator) -> Iterator[int]:
    while True:
        yield from random.permutation(count).tolist()


def _view(
    pixels: Pixels, mask: Mask, image_size: int, random: np.random.Generator
) -> tuple[Pixels, Mask]:
    """A crop of an image and of its mask, uint8 [s, s, 3] and bool [s, s]."""
    box = _crop_box(mask, random)
    size = (image_size, image_size)
    view = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box)
    soft = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BILINEAR, box=box)
    step = -1 if random.random() < 0.5 else 1
    return np.asarray(view)[:, ::step], (np.asarray(soft) > 0.5)[:, ::step]


def _scaled(
    pixels: Pixels, mask: Mask, image_size: int, random: np.random.Generator
) -> tuple[Pixels, Mask]:
    """The whole image, reduced, and its mask, uint8 [s, s, 3] and bool [s, s].

    If a thin object vanishes in all tries, the image fills the view.
    """
    for _ in range(_TRIES):
        side = max(1, int(image_size * random.uniform(_SMALLEST_SCALE, 1.0)))
        small = _nearest(mask, side)
        if small.any():
            break
    else:
        side, small = image_size, _nearest(mask, image_size)
    # The mean is truncated, not rounded, as in the reference.
    view = np.empty((image_size, image_size, 3), dtype=np.uint8)
    view[:] = pixels.mean(axis=(0, 1)).astype(np.uint8)
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    view[:side, :side] = np.asarray(image)
    seen = np.zeros((image_size, image_size), dtype=np.bool_)
    seen[:side, :side] = small
    step = -1 if random.random() < 0.5 else 1
    return view[:, ::step], seen[:, ::step]


def _nearest(mask: Mask, side: int) -> Mask:
    """A mask at another size, bool [side, side]."""
    small = Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(small, dtype=np.bool_)


def _crop_box(mask: Mask, random: np.random.Generator) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a nearly square crop with most of the mask.

    If none is found in some tries, it is the whole image: nothing can be learned from a crop
    without the object.
    """
    height, width = mask.shape
    area = mask.sum()
    for _ in range(_TRIES):
        side = random.uniform(_SMALLEST_CROP, 1.0) * min(height, width)
        stretch = math.exp(random.uniform(-1, 1) * math.log(_MOST_STRETCH) / 2)
        rows, columns = min(side * stretch, height), min(side / stretch, width)
        top, left = random.uniform(0, height - rows), random.uniform(0, width - columns)
        inside = mask[int(top) : math.ceil(top + rows), int(left) : math.ceil(left + columns)]
        if inside.sum() >= _LEAST_OF_MASK * area:
            return left, top, left + columns, top + rows
    return 0.0, 0.0, width, height


def recoloured(images: Pixels, random: np.random.Generator) -> Pixels:
    """Brightness, contrast, saturation, tint of each of [n, s, s, 3] jittered; some are grey."""
    count = len(images)

    def factors(most: float, channels: int = 1) -> NDArray[np.float32]:
        return random.uniform(1 - most, 1 + most, (count, 1, 1, channels)).astype(np.float32)

    values = images.astype(np.float32) * factors(_BRIGHTNESS) * factors(_TINT, 3)
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    values = mean + (values - mean) * factors(_CONTRAST)
    grey = (values @ _LUMA)[..., None]
    keeps_colour = random.random((count, 1, 1, 1)) >= _GREY_SHARE
    values = grey + (values - grey) * factors(_SATURATION) * keeps_colour
    clipped: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped
