"""Near-duplicates: an image as it comes back from the web, cut, compressed, lit anew, mirrored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from made_world.drawing.rng import Rng
from made_world.scenes.composing import MadeImage

Way = Literal["crop", "jpeg", "brightness", "flip", "resize"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)

_QUALITY: Final = 92


@dataclass(frozen=True, eq=False)
class NearDuplicate:
    """A changed image.

    Attributes:
        image: the pixels, and the objects that are still to be seen, with their masks.
        quality: of the JPEG that it is stored as, 1..100.
    """

    image: MadeImage
    quality: int = _QUALITY


def near_duplicate(rng: Rng, image: MadeImage, way: Way) -> NearDuplicate:
    """The image, changed in one way.

    `crop` keeps 80 % to 95 % of each side, `jpeg` stores with quality 30, `brightness` multiplies
    by 0.7 to 0.9 or 1.1 to 1.3, `flip` exchanges left and right, `resize` makes each side half to
    0.9 times as long.
    """
    pixels = image.pixels
    if way == "jpeg":
        return NearDuplicate(image, quality=30)
    if way == "brightness":
        factor = rng.between(0.7, 0.9) if rng.chance(0.5) else rng.between(1.1, 1.3)
        lit = np.clip(pixels * factor + 0.5, 0, 255).astype(np.uint8)
        return NearDuplicate(replace(image, pixels=lit))
    if way == "flip":
        return NearDuplicate(_changed(image, lambda each: each[:, ::-1]))
    if way == "crop":
        window = _window(rng, pixels.shape[0]), _window(rng, pixels.shape[1])
        return NearDuplicate(cropped(image, window))
    height, width = pixels.shape[:2]
    share = rng.between(0.5, 0.9)
    size = max(1, round(width * share)), max(1, round(height * share))
    return NearDuplicate(_changed(image, lambda each: _resized(each, size)))


def _changed(image: MadeImage, change: Callable[[NDArray[Any]], NDArray[Any]]) -> MadeImage:
    """The image with its pixels and masks changed alike, without objects that are gone."""
    masks = [np.ascontiguousarray(change(one.mask)) for one in image.objects]
    pairs = zip(image.objects, masks, strict=True)
    return replace(
        image,
        pixels=np.ascontiguousarray(change(image.pixels)),
        objects=tuple(replace(one, mask=mask) for one, mask in pairs if mask.any()),
    )


def cropped(image: MadeImage, window: tuple[slice, slice]) -> MadeImage:
    """The part of the image in a window of (rows, columns), without objects outside."""
    part = _changed(image, lambda each: each[window])
    scale = min(image.pixels.shape[:2]) / min(part.pixels.shape[:2])
    before = [one for one in image.objects if one.mask[window].any()]
    objects = tuple(
        replace(
            now,
            size=now.size * scale,
            visible=now.visible * float(now.mask.sum()) / float(was.mask.sum()),
        )
        for now, was in zip(part.objects, before, strict=True)
    )
    return replace(part, objects=objects)


def _window(rng: Rng, length: int) -> slice:
    kept = round(length * rng.between(0.8, 0.95))
    start = rng.whole(0, length - kept)
    return slice(start, start + kept)


def _resized(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Pixels, or of a mask those that it covers by half or more, at another (width, height)."""
    if pixels.dtype == np.bool_:
        covered = Image.fromarray(pixels.astype(np.uint8) * 255)
        return np.asarray(covered.resize(size, Image.Resampling.BOX)) >= 128
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
