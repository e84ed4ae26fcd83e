"""What becomes of a label when a trained network looks at it again.

Where the network's mask of the category agrees with the label's, the two are averaged and snapped
to the image's edges: pixels on which they agree stay, and edges decide the others. Where they don't
agree, the label stays as it is: which of the two is wrong can't be told.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from zutis_model.refinement.bilateral_solver import refine_mask
from zutis_model.refinement.mask_statistics import intersection_over_union

Mask = npt.NDArray[np.bool_]

_SOLVER_SIDE: Final = 512
"""Shorter side, pixels, at which masks are snapped to edges, as the first ones were."""

_HALF = 0.5


@dataclass(frozen=True, eq=False)
class SecondLook:
    """A label after the second look.

    Attributes:
        mask: bool [h, w].
        unrefined: bool [h, w], the same before it was snapped to edges.
        overlaps: IoU, 0..1, of the first mask with each of the network's.
        is_sharpened: the mask is a new one.
    """

    mask: Mask
    unrefined: Mask
    overlaps: tuple[float, ...]
    is_sharpened: bool

    @property
    def agreement(self) -> float:
        """The largest overlap; 0 if the network found nothing."""
        return max(self.overlaps, default=0.0)


def look_again(
    pixels: npt.NDArray[np.uint8], first: Mask, found: Iterable[Mask], least_agreement: float
) -> SecondLook:
    """Compare a label's mask with those that the network found of its category.

    Args:
        pixels: uint8 [h, w, 3], RGB.
        first: the label's mask, bool [h, w].
        found: the network's, bool [h, w] each, in any number.
        least_agreement: IoU, 0..1, from which the label is sharpened.
    """
    masks = list(found)
    overlaps = tuple(intersection_over_union(first, mask) for mask in masks)
    agreement = max(overlaps, default=0.0)
    unchanged = SecondLook(first, first, overlaps, is_sharpened=False)
    if agreement < least_agreement or not agreement:
        return unchanged
    best = masks[overlaps.index(agreement)]
    sharpened = _snapped(pixels, first, best)
    if not sharpened.any() or sharpened.all():
        return unchanged
    return SecondLook(sharpened, first | best, overlaps, is_sharpened=True)


def _snapped(pixels: npt.NDArray[np.uint8], first: Mask, second: Mask) -> Mask:
    """The mean of two masks, snapped to edges: bool [h, w]."""
    height, width = first.shape
    factor = min(1.0, _SOLVER_SIDE / min(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    mean = Image.fromarray((first.astype(np.float32) + second) / 2)
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    soft = refine_mask(np.asarray(small), np.asarray(mean.resize(size, Image.Resampling.BOX)))
    large = Image.fromarray(soft.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(np.asarray(large) > _HALF)
