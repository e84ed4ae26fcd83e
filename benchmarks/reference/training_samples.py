"""Training samples made as the ZUTIS reference makes them: the baseline of `training_loader`.

The same draws and the same result as `tasks.training.sample_rendering`, but for differences of JPEG
decoders, by the operations of the reference (`datasets/index_dataset.py`, `base_dataset.py`) in
its order: every image is decoded, scaled, filled up, cropped, flipped, augmented and normalised
as a whole, its mask in 64 bits along with it, and only then is the object cut out of it. Masks come
as COCO RLE.

Two things are ours, so that results can be compared: masks are scaled by pixel centres, and objects
are pasted whole. The blur, which the reference has from OpenCV, has its 39 taps, but is computed by
our compiled loop, as OpenCV is not installed.

Dimensions:
    s     rows and columns of the crop
    h, w  rows, columns of an image
    n     objects
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision.transforms.functional as F  # noqa: N812 - the field's name for it
from PIL import Image
from pycocotools import mask as coco
from torch import Tensor
from torchvision.transforms import InterpolationMode

from tasks.training.sample_rendering import ObjectDraw
from zutis_model.layers.normalisation import IMAGENET_MEAN, IMAGENET_STD
from zutis_model.training.copy_paste import uniform_index
from zutis_model.training.photometric import ColourJitter, gaussian_blur

IGNORE = 255
_ADJUST = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


@dataclass(frozen=True)
class StoredSample:
    """An image's JPEG bytes and its object's mask as COCO RLE."""

    jpeg: bytes
    rle: dict[str, Any]


@dataclass
class PlainSample:
    """As `tasks.training.samples.TrainingSample`; semantic in int64."""

    image: Tensor
    semantic: Tensor
    instances: Tensor


def make_sample(
    stored: Sequence[StoredSample], draws: Sequence[ObjectDraw], size: int
) -> PlainSample:
    """The sample of the draws; `stored` is the whole data set, by index."""
    images = [_augmented(stored[draw.index], draw, size) for draw in draws]
    (image, mask), *others = images
    semantic = torch.where(mask == 1, draws[0].label, mask)
    numbers = mask.clone()
    for i, (draw, (pixels, other)) in enumerate(zip(draws[1:], others, strict=True), start=2):
        rows, columns = torch.nonzero(other == 1, as_tuple=True)
        if not len(rows):
            continue
        top, bottom = int(rows.min()), int(rows.max()) + 1
        left, right = int(columns.min()), int(columns.max()) + 1
        region = (other == 1)[top:bottom, left:right]
        height, width = region.shape
        down = uniform_index(draw.position[0], size - height + 1)
        along = uniform_index(draw.position[1], size - width + 1)
        place = np.s_[down : down + height, along : along + width]
        image[:, *place][:, region] = pixels[:, top:bottom, left:right][:, region]
        semantic[place][region] = draw.label
        numbers[place][region] = i
    instances = torch.stack([numbers == i for i in range(1, len(draws) + 1)])
    return PlainSample(image, semantic, instances)


def _augmented(stored: StoredSample, draw: ObjectDraw, size: int) -> tuple[Tensor, Tensor]:
    """Normalised image [3, s, s]; mask int64 [s, s]: 1 object, IGNORE where it was filled up."""
    image = Image.open(io.BytesIO(stored.jpeg)).convert("RGB")
    mask = torch.from_numpy(coco.decode(stored.rle).astype(np.int64))
    height, width = (max(int(side * draw.scale), 1) for side in mask.shape)
    image = F.resize(image, [height, width], InterpolationMode.BILINEAR)
    # Not torch's NEAREST_EXACT, whose rounding takes the neighbour's label for some centres.
    mask = mask[_centres(height, mask.shape[0])][:, _centres(width, mask.shape[1])]
    image, mask = _cropped(image, mask, draw, size)
    if draw.flip:
        image, mask = F.hflip(image), F.hflip(mask)
    if draw.jitter is not None:
        image = _jittered(image, draw.jitter)
    if draw.greyscale:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if draw.sigma:
        planes = np.array(image).transpose(2, 0, 1).copy()
        blurred = gaussian_blur(planes, draw.sigma, int(0.1 * size) // 2)
        image = Image.fromarray(blurred.transpose(1, 2, 0).copy())
    return F.normalize(F.to_tensor(image), IMAGENET_MEAN, IMAGENET_STD), mask


def _centres(scaled: int, size: int) -> Tensor:
    """The row or column of `size` in which each of `scaled` has its centre."""
    return (2 * torch.arange(scaled) + 1) * size // (2 * scaled)


def _cropped(
    image: Image.Image, mask: Tensor, draw: ObjectDraw, size: int
) -> tuple[Image.Image, Tensor]:
    """Fill up with the mean colour, and with IGNORE; then crop."""
    fill = tuple(np.array(image).mean(axis=(0, 1)).astype(np.uint8).tolist())
    lacking = [max(size - side, 0) for side in mask.shape]
    top, left = (lack if first else 0 for lack, first in zip(lacking, draw.fill_first, strict=True))
    padding = [left, top, lacking[1] - left, lacking[0] - top]
    image, mask = F.pad(image, padding, fill=fill), F.pad(mask, padding, fill=IGNORE)
    start = [
        uniform_index(u, side - size + 1) for side, u in zip(mask.shape, draw.offset, strict=True)
    ]
    return F.crop(image, *start, size, size), F.crop(mask, *start, size, size)


def _jittered(image: Image.Image, jitter: ColourJitter) -> Image.Image:
    for operation in jitter.order:
        image = _ADJUST[operation](image, getattr(jitter, operation))
    return image
