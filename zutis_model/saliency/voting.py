"""SelfMask's vote for the salient one of many candidate masks (Shin et al. 2022, section 3.2).

A candidate that spans the image from side to side frames it: it is background (the framing
prior). Of the others, the one that agrees most with all of them wins: clusters of an object come
out alike for several features and numbers of clusters, those of background differ each time. As in
the reference's `mask_generator.py` (github.com/NoelShin/selfmask).

Dimensions:
    n     candidates
    h, w  rows, columns
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Vote:
    """The candidate with the most agreement.

    Attributes:
        index: of the candidate, 0..n - 1; the first of equals.
        agreement: its mean IoU with the other candidates that don't frame the image, 0..1; 0 if
            there are none.
    """

    index: int
    agreement: float


def elect_salient(candidates: BoolArray) -> Vote | None:
    """Choose the candidate that agrees most with the others.

    Args:
        candidates: bool [n, h, w].

    Returns:
        The winner; None if all are empty or frame the image. (The reference then keeps all of
        them; training is better without images that have no salient object.)

    Raises:
        ValueError: another shape or type.
    """
    if candidates.ndim != 3 or candidates.dtype != np.bool_:
        raise ValueError(
            f"candidates must be bool [n, h, w], got {candidates.dtype} {list(candidates.shape)}"
        )
    standing = np.flatnonzero(candidates.any(axis=(1, 2)) & ~frames_image(candidates))
    if not len(standing):
        return None
    overlaps = pairwise_iou(candidates[standing])
    np.fill_diagonal(overlaps, 0)
    sums = overlaps.sum(axis=1)
    winner = int(sums.argmax())
    return Vote(int(standing[winner]), float(sums[winner] / max(len(standing) - 1, 1)))


def frames_image(masks: BoolArray) -> BoolArray:
    """Whether a mask touches two opposite sides of the image: bool [n] of bool [n, h, w]."""
    top, bottom = masks[:, 0].any(axis=1), masks[:, -1].any(axis=1)
    left, right = masks[:, :, 0].any(axis=1), masks[:, :, -1].any(axis=1)
    return np.logical_or(top & bottom, left & right)


def pairwise_iou(masks: BoolArray) -> npt.NDArray[np.float64]:
    """Intersection over union of all pairs of bool [n, h, w]: float64 [n, n]; 0 of two empty."""
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    intersections = flat @ flat.T
    areas = flat.sum(axis=1)
    unions = areas[:, None] + areas - intersections
    ious: npt.NDArray[np.float64] = intersections / np.maximum(unions, 1)
    return ious
