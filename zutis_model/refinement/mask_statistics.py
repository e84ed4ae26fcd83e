"""Statistics of a mask that tell good pseudo-masks from bad ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class MaskStatistics:
    """Statistics of one mask.

    Attributes:
        area_fraction: mask pixels over image pixels, 0..1.
        border_contact: fraction of the image's border pixels that are mask, 0..1. High for
            masks of the background and for cut-off objects.
        components: number of 8-connected components; 0 for an empty mask.
        refiner_agreement: intersection over union of the masks after and before refinement,
            0..1; 1 if both are empty. Low where the network's mask didn't follow image edges.
    """

    area_fraction: float
    border_contact: float
    components: int
    refiner_agreement: float


def mask_statistics(
    mask: npt.NDArray[np.bool_], unrefined: npt.NDArray[np.bool_]
) -> MaskStatistics:
    """Measure one mask.

    Args:
        mask: bool [h, w], at least one pixel.
        unrefined: bool [h, w], the same mask before refinement.

    Raises:
        ValueError: the masks are not bool, not of one two-dimensional shape, or have no pixel.
    """
    for name, array in (("mask", mask), ("unrefined", unrefined)):
        if array.dtype != np.bool_ or array.ndim != 2 or array.size == 0:
            raise ValueError(f"{name} must be bool [h, w], got {array.dtype} {array.shape}")
    if mask.shape != unrefined.shape:
        raise ValueError(f"mask {mask.shape} and unrefined {unrefined.shape} differ in shape")

    area = int(np.count_nonzero(mask))
    return MaskStatistics(
        area_fraction=area / mask.size,
        border_contact=border_contact(mask),
        components=int(ndimage.label(mask, structure=_EIGHT_CONNECTED)[1]),
        refiner_agreement=intersection_over_union(mask, unrefined),
    )


def border_contact(mask: npt.NDArray[np.bool_]) -> float:
    """Share of the image's border pixels that are mask, 0..1, of bool [h, w]."""
    # The interior of an image of one or two rows or columns is empty: all of it is border.
    interior = mask[1:-1, 1:-1]
    on_border = int(np.count_nonzero(mask)) - int(np.count_nonzero(interior))
    return on_border / (mask.size - interior.size)


def intersection_over_union(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """0..1, of two masks of one shape; 1 if both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0
