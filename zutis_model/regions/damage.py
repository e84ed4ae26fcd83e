"""Damage done to masks on purpose, with the IoU that is left: examples of what labels suffer from.

Masks of an unsupervised network are too wide or too narrow, lie beside the object, have lost a
part, have taken in a neighbour, or are of something else. The same is done here to masks that are
believed, so that an estimator can learn to see it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zutis_model.refinement.mask_statistics import intersection_over_union
from zutis_model.regions.views import bounding_box

Mask = npt.NDArray[np.bool_]

_LEAST_PIXELS = 12


@dataclass(frozen=True, eq=False)
class DamagedMask:
    """A damaged mask.

    Attributes:
        mask: bool [h, w], at least one pixel.
        way: what was done, one of `WAYS`.
        iou: with the mask that it was, 0..1.
    """

    mask: Mask
    way: str
    iou: float


def damaged(
    mask: Mask, rng: np.random.Generator, way: str, other: Mask | None = None
) -> DamagedMask | None:
    """Damage a mask.

    Args:
        mask: bool [h, w], at least one pixel.
        rng: of which `random` alone is used, whose numbers NumPy keeps stable.
        way: one of `WAYS`.
        other: the mask of another object, bool, any shape; `merge` and `replace` need it.

    Returns:
        None where nothing would be left, or the mask did not change.

    Raises:
        ValueError: an unknown way, or no other mask for a way that needs it.
    """
    if way not in WAYS:
        raise ValueError(f"there is no way {way!r} to damage a mask, only {', '.join(WAYS)}")
    if way in _NEED_ANOTHER:
        if other is None:
            raise ValueError(f"to {way} a mask, another one is needed")
        changed = _NEED_ANOTHER[way](mask, rng, other)
    else:
        changed = _ALONE[way](mask, rng)
    if np.count_nonzero(changed) < _LEAST_PIXELS or np.array_equal(changed, mask):
        return None
    return DamagedMask(changed, way, intersection_over_union(changed, mask))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _radius(mask: Mask) -> float:
    """Of a disc of the mask's area, pixels."""
    return float(np.sqrt(np.count_nonzero(mask) / np.pi))


def _dilate(mask: Mask, rng: np.random.Generator) -> Mask:
    reach = _between(rng, 0.1, 0.9) * _radius(mask)
    return np.asarray(ndimage.distance_transform_edt(~mask) <= max(reach, 1.0))


def _erode(mask: Mask, rng: np.random.Generator) -> Mask:
    depth = ndimage.distance_transform_edt(mask)
    return np.asarray(depth > max(_between(rng, 0.1, 0.8) * float(depth.max()), 1.0))


def _shift(mask: Mask, rng: np.random.Generator) -> Mask:
    top, bottom, left, right = bounding_box(mask)
    angle, reach = _between(rng, 0, 2 * np.pi), _between(rng, 0.1, 0.9)
    return _moved(
        mask,
        round(reach * np.sin(angle) * (bottom - top)),
        round(reach * np.cos(angle) * (right - left)),
    )


def _cut(mask: Mask, rng: np.random.Generator) -> Mask:
    """Keep what lies on one side of a straight line."""
    angle, kept = _between(rng, 0, 2 * np.pi), _between(rng, 0.15, 0.85)
    rows, columns = np.nonzero(mask)
    along = np.sin(angle) * rows + np.cos(angle) * columns
    limit = np.quantile(along, kept)
    result = np.zeros_like(mask)
    result[rows[along <= limit], columns[along <= limit]] = True
    return result


def _merge(mask: Mask, rng: np.random.Generator, other: Mask) -> Mask:
    """Take in another object, which touches this one or lies near it."""
    top, bottom, left, right = bounding_box(mask)
    piece = _scaled(other, _between(rng, 0.5, 1.6) * _radius(mask) / _radius(other))
    angle = _between(rng, 0, 2 * np.pi)
    away = _between(rng, 0.8, 1.3)
    height, width = piece.shape
    row = (top + bottom) / 2 + away * np.sin(angle) * (bottom - top + height) / 2
    column = (left + right) / 2 + away * np.cos(angle) * (right - left + width) / 2
    return mask | _pasted(piece, mask.shape, round(row - height / 2), round(column - width / 2))


def _replace(mask: Mask, rng: np.random.Generator, other: Mask) -> Mask:
    """Another object's outline anywhere in the image."""
    piece = _scaled(other, _between(rng, 0.5, 1.5) * _radius(mask) / _radius(other))
    row = _between(rng, 0, mask.shape[0]) - piece.shape[0] / 2
    column = _between(rng, 0, mask.shape[1]) - piece.shape[1] / 2
    return _pasted(piece, mask.shape, round(row), round(column))


def _moved(mask: Mask, down: int, right: int) -> Mask:
    top, bottom, left, end = bounding_box(mask)
    return _pasted(mask[top:bottom, left:end], mask.shape, top + down, left + right)


def _scaled(mask: Mask, factor: float) -> Mask:
    """The mask's box, scaled; nearest neighbour."""
    top, bottom, left, right = bounding_box(mask)
    box = mask[top:bottom, left:right]
    rows, columns = (
        np.minimum((np.arange(max(2, round(n * factor))) / factor).astype(np.int64), n - 1)
        for n in box.shape
    )
    return np.asarray(box[np.ix_(rows, columns)])


def _pasted(piece: Mask, shape: tuple[int, ...], top: int, left: int) -> Mask:
    """A piece on an empty mask, its upper left pixel at (top, left), which may lie outside."""
    result = np.zeros(shape, dtype=np.bool_)
    rows, columns = np.nonzero(piece)
    rows, columns = rows + top, columns + left
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    result[rows[inside], columns[inside]] = True
    return result


_ALONE: Final[dict[str, Callable[[Mask, np.random.Generator], Mask]]] = {
    "dilate": _dilate,
    "erode": _erode,
    "shift": _shift,
    "cut": _cut,
}
_NEED_ANOTHER: Final[dict[str, Callable[[Mask, np.random.Generator, Mask], Mask]]] = {
    "merge": _merge,
    "replace": _replace,
}
WAYS: Final = (*_ALONE, *_NEED_ANOTHER)
"""What can be done to a mask."""
