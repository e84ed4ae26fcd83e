"""What a corrected file says of an image: its objects, with category and mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage.decisions.decision import DrawnMask
from storage.images.masks import run_lengths

NO_MASK, BAD_MASK, EMPTY_MASK = "no_mask", "bad_mask", "empty_mask"
UNUSABLE: Final = {
    NO_MASK: "without a mask, such as boxes",
    BAD_MASK: "with a mask that can't be read",
    EMPTY_MASK: "with a mask without a pixel",
}
"""Why an object is left out."""

_MOST_PIXELS: Final = 1 << 28
"""More than an image that is decoded has."""


class Unusable(ValueError):  # noqa: N818 - counted, and no failure
    """An object that is left out.

    Attributes:
        reason: a key of `UNUSABLE`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class CorrectedObject:
    """An object of an image."""

    category: str
    mask: DrawnMask


@dataclass(frozen=True)
class CorrectedImage:
    """An image of the file.

    Attributes:
        names: what the file calls it, the surest first: sha256 of its bytes, paths, addresses.
        objects: that it shows.
        is_whole: whether none of its objects was left out.
    """

    names: tuple[str, ...]
    objects: tuple[CorrectedObject, ...]
    is_whole: bool = True


@dataclass
class CorrectedFile:
    """The content of a file.

    Attributes:
        images: in the file's order.
        left_out: objects that can't be used, by reason (`UNUSABLE`).
    """

    images: list[CorrectedImage] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def drawn_mask(pixels: npt.NDArray[np.bool_]) -> DrawnMask:
    """A mask, bool [h, w], as decisions have it.

    Raises:
        Unusable: it is empty.
    """
    if not pixels.any():
        raise Unusable(EMPTY_MASK)
    height, width = pixels.shape
    return DrawnMask(height, width, str(run_lengths(pixels)["counts"]))


def polygon_mask(polygons: Sequence[Sequence[float]], height: int, width: int) -> DrawnMask:
    """The mask of polygons, each x, y, x, y, … in pixels, as pycocotools fills them.

    Raises:
        Unusable: one has fewer than three corners or no finite numbers, or there is no pixel.
    """
    from pycocotools import mask as coco_mask

    sizes = {len(each) for each in polygons}
    if not polygons or min(sizes) < 6 or any(size % 2 for size in sizes):
        raise Unusable(BAD_MASK)
    if not all(np.isfinite(each).all() and np.abs(each).max() < 1e7 for each in polygons):
        raise Unusable(BAD_MASK)
    outlines = [list(map(float, each)) for each in polygons]
    encoded: Any = coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))
    if not coco_mask.area(encoded):
        raise Unusable(EMPTY_MASK)
    return DrawnMask(height, width, encoded["counts"].decode("ascii"))


def checked_size(height: Any, width: Any) -> tuple[int, int]:
    """Rows and columns of an image.

    Raises:
        Unusable: no image has this size.
    """
    both = (height, width)
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in both):
        raise Unusable(BAD_MASK)
    if not (height > 0 and width > 0 and height * width < _MOST_PIXELS):
        raise Unusable(BAD_MASK)
    return height, width
