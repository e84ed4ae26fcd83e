"""The objects in a mask of everything that stands out: connected pieces, and parts that touch.

SelfMask often gives one mask for all objects of an image. Pieces apart are different objects,
nearly always. Objects that touch are joined by a waist that is thinner than either: where eroding
cuts a piece in two, its parts are candidates as well as the whole, because some objects have waists
of their own. Which of them is an object, is for those to say who look at the pixels.

Dimensions:
    h, w  image rows, columns
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zutis_model.refinement.mask_statistics import intersection_over_union

Mask = npt.NDArray[np.bool_]

LEAST_SHARE: Final = 0.003
"""Of the image's area that an object has. At 168 pixels it is nine pixels' square."""

_EIGHT_CONNECTED: Final = np.ones((3, 3), dtype=np.bool_)
_LEAST_CORE: Final = 1 / 6  # what erosion leaves of a part, as a share of the least object
_DEEPEST: Final = 4  # parts of parts
_SAME: Final = 0.8  # IoU from which two masks are of one object


@dataclass(frozen=True, eq=False)
class Piece:
    """A candidate for an object.

    Attributes:
        mask: bool [h, w].
        part_of: place in the list of the piece that it is a part of; None of a piece apart.
    """

    mask: Mask
    part_of: int | None


def objects_in(mask: Mask, least_share: float = LEAST_SHARE) -> list[Piece]:
    """The connected pieces of a mask from the largest to the smallest, each followed by its parts.

    Args:
        mask: bool [h, w].
        least_share: of the image's area that a piece or a part has at least, 0..1.

    Returns:
        Pieces (8-connected), disjoint, and parts, disjoint among those of one piece and inside it.
        Empty where nothing is large enough.

    Raises:
        ValueError: the mask is not bool [h, w].
    """
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ValueError(f"the mask must be bool [h, w], got {mask.dtype} {list(mask.shape)}")
    least = max(1.0, least_share * mask.size)
    found: list[Piece] = []
    for piece in _connected(mask, least):
        found.append(Piece(piece, None))
        _add_parts(found, len(found) - 1, least, _DEEPEST)
    return found


def distinct(masks: Sequence[Mask]) -> list[int]:
    """For each mask the place of the first that is nearly the same (IoU 0.8), or its own.

    Args:
        masks: bool [h, w], the better ones first.
    """
    kept: list[int] = []
    places = []
    for place, mask in enumerate(masks):
        same = (at for at in kept if intersection_over_union(masks[at], mask) >= _SAME)
        places.append(next(same, place))
        if places[-1] == place:
            kept.append(place)
    return places


def _connected(mask: Mask, least: float) -> list[Mask]:
    """The connected pieces of at least so many pixels, the largest first."""
    labels, count = ndimage.label(mask, structure=_EIGHT_CONNECTED)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-areas, kind="stable")
    return [labels == at + 1 for at in order if areas[at] >= least]


def _add_parts(found: list[Piece], whole: int, least: float, depth: int) -> None:
    if depth:
        for part in _parts(found[whole].mask, least):
            found.append(Piece(part, whole))
            _add_parts(found, len(found) - 1, least, depth - 1)


def _parts(piece: Mask, least: float) -> Iterator[Mask]:
    """The parts into which the least erosion cuts a piece, grown back to fill it; none if only
    specks come off."""
    rows, columns = ndimage.find_objects(piece.astype(np.uint8))[0]
    inside = np.pad(piece[rows, columns], 1)
    depth = ndimage.distance_transform_edt(inside)
    for eroded in range(1, int(depth.max())):
        cores = _connected(depth > eroded, max(1.0, _LEAST_CORE * least))
        if len(cores) < 2:
            continue
        numbers = sum(core * np.int32(number) for number, core in enumerate(cores, start=1))
        nearest = ndimage.distance_transform_edt(
            numbers == 0, return_distances=False, return_indices=True
        )
        owner = np.asarray(numbers)[tuple(nearest)]
        for number in range(1, len(cores) + 1):
            part = (owner == number) & inside
            if np.count_nonzero(part) >= least:
                whole = np.zeros_like(piece)
                whole[rows, columns] = part[1:-1, 1:-1]
                yield whole
        return
