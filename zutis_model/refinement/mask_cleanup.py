"""Clean-up of a mask: holes filled, a single region kept.

The reference computes this as the second output of its bilateral solver
(`utils/bilateral_solver.py`), and its caller discards it: no stage of the reference, nor of this
project, depends on it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage


def fill_and_keep_one(
    mask: npt.NDArray[np.bool_], keep: Literal["largest", "reference"] = "largest"
) -> npt.NDArray[np.bool_]:
    """Fill the holes of a mask, then keep one of its regions.

    Regions and the background around holes are 4-connected.

    Args:
        mask: bool [h, w], at least one pixel; of a refined soft mask, `soft > 0.5`.
        keep: which region.
            `largest`: the largest of the mask, of equal ones that with the first pixel in reading
            order; nothing of an empty mask.
            `reference`: to reproduce the reference's numbers. It counts the background as a
            region and keeps the second largest. So it returns the background where a single
            object covers more than half of the image; nothing where the mask is full; and
            everything where it is empty. Of equal ones it keeps the later in reading order.

    Returns:
        bool [h, w].

    Raises:
        ValueError: the mask is not bool [h, w] or has no pixel; `keep` is another word.
    """
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"mask must be bool [h, w], got {mask.dtype} {mask.shape}")
    if keep not in ("largest", "reference"):
        raise ValueError(f"keep must be 'largest' or 'reference', got {keep!r}")

    labels, num_regions = ndimage.label(ndimage.binary_fill_holes(mask))
    if num_regions == 0:
        return np.full(mask.shape, keep == "reference")
    areas = np.bincount(labels.ravel())  # label 0 is the background
    kept = 1 + areas[1:].argmax() if keep == "largest" else areas.argsort(kind="stable")[-2]
    region: npt.NDArray[np.bool_] = labels == kept
    return region
