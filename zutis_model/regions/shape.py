"""The shape of a mask: size, place, compactness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from zutis_model.refinement.mask_statistics import border_contact
from zutis_model.regions.views import bounding_box

_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class MaskShape:
    """Numbers that describe a mask.

    Attributes:
        area: mask pixels over image pixels, 0..1.
        border_contact: share of the image's border pixels that are mask, 0..1.
        components: number of 8-connected pieces.
        largest_piece: share of the mask that its largest piece has, 0..1.
        solidity: mask pixels over pixels of the convex hull, 0..1.
        extent: mask pixels over pixels of the bounding box, 0..1.
        elongation: longer side of the box over the shorter, at least 1.
        holes: pixels that the mask encloses, over its own, at least 0.
    """

    area: float
    border_contact: float
    components: int
    largest_piece: float
    solidity: float
    extent: float
    elongation: float
    holes: float


def mask_shape(mask: npt.NDArray[np.bool_]) -> MaskShape:
    """Measure a mask, bool [h, w] of at least one pixel.

    Raises:
        ValueError: the mask is empty.
    """
    top, bottom, left, right = bounding_box(mask)
    area = int(np.count_nonzero(mask))
    inside = mask[top:bottom, left:right]
    height, width = inside.shape
    pieces, number = ndimage.label(inside, structure=_EIGHT_CONNECTED)
    return MaskShape(
        area=area / mask.size,
        border_contact=border_contact(mask),
        components=int(number),
        largest_piece=int(np.bincount(pieces.ravel())[1:].max()) / area,
        solidity=min(1.0, area / _hull_area(inside)),
        extent=area / inside.size,
        elongation=max(height, width) / min(height, width),
        holes=int(np.count_nonzero(ndimage.binary_fill_holes(inside))) / area - 1,
    )


def _hull_area(mask: npt.NDArray[np.bool_]) -> float:
    """Area of the convex hull of the pixels, as squares, of a mask that touches its box."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows][:, ::-1].argmax(axis=1)
    corners = np.concatenate([
        np.stack([row, column], axis=1)
        for row in (rows, rows + 1)
        for column in (first, last)
    ])  # fmt: skip
    try:
        return float(ConvexHull(corners).volume)  # of two dimensions, the area
    except QhullError:  # pragma: no cover - squares of a pixel always span a plane
        return float(np.count_nonzero(mask))
