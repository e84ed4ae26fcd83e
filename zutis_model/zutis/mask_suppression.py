"""Non-maximum suppression of masks that overlap a better one of their category.

Hard suppression drops them, the soft ones (Bodla et al. 2017, Soft-NMS) lower their scores by a
factor that depends on the intersection over union. The numbers are those of the ZUTIS reference
(`networks/zutis.py`, `non_maximum_suppression`, and `utils/iou.py`); all pairs of masks of
a category are compared at once, and the greedy choice then runs over numbers alone.

Dimensions:
    n     masks of one image
    H, W  image rows, columns
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zutis_model.layers.precision import autocast

Suppression = Literal["hard", "linear", "gaussian"]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# The reference adds it to the union, so that two empty masks overlap by 0.
_EPSILON = 1e-7
# float32 values of the matrix product at once: 32 MiB. Counts up to 2 ** 24 are exact in float32.
_PIXELS_AT_ONCE = 2**23
# 64-bit words of each mask: what a hundred masks need then stays in a core's cache, and the pixels
# in them are counted in 16 bits.
_WORDS_AT_ONCE = 128


def suppress_overlapping(
    masks: Tensor,
    scores: Tensor,
    category_ids: Tensor,
    *,
    suppression: Suppression | None = "hard",
    suppression_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
) -> tuple[Tensor, Tensor]:
    """Choose masks of one image; within each category, masks that overlap better ones lose.

    The best remaining mask is kept, and the scores of the remaining ones of its category are
    multiplied by a weight of their overlap with it (intersection over union, IoU), again and
    again. An empty mask overlaps nothing by more than 0, another empty one included; it takes
    part and may be kept.

    Args:
        masks: bool [n, H, W].
        scores: float [n], finite.
        category_ids: int [n].
        suppression: the weight: `hard` 0 where the IoU is above the threshold, `linear` 1 - IoU
            there, `gaussian` exp(-IoU² / sigma) everywhere. None: every mask is kept with its
            score.
        suppression_threshold: IoU in 0..1, of `hard` and `linear`; strictly above it counts.
        sigma: above 0, of `gaussian`.
        score_threshold: at least 0; masks whose lowered score isn't strictly above it are
            dropped.

    Returns:
        indices: int64 [m], rising, of the masks that are kept.
        scores: float32 [m], lowered by the soft suppressions.

    Raises:
        ValueError: unknown suppression, a setting outside its range, arguments of other shapes
            or types, or scores that aren't finite.
    """
    check_suppression(suppression, suppression_threshold, sigma, score_threshold)
    _check_candidates(masks, scores, category_ids)
    # Where all are kept, overlaps are not needed.
    count = _no_intersections if suppression is None else intersections_within_categories
    return suppress_by_intersections(
        count(masks, category_ids),
        scores,
        category_ids,
        suppression=suppression,
        suppression_threshold=suppression_threshold,
        sigma=sigma,
        score_threshold=score_threshold,
    )


def suppress_by_intersections(
    intersections: IntArray,
    scores: Tensor,
    category_ids: Tensor,
    *,
    suppression: Suppression | None = "hard",
    suppression_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
) -> tuple[Tensor, Tensor]:
    """`suppress_overlapping`, for masks whose common pixels are counted already.

    Args:
        intersections: int64 [n, n], of all blocks of the masks' pixels together, as
            `intersections_within_categories` counts them.
        scores, category_ids, and the settings: as of `suppress_overlapping`.

    Returns:
        As `suppress_overlapping`.

    Raises:
        ValueError: as `suppress_overlapping`.
    """
    check_suppression(suppression, suppression_threshold, sigma, score_threshold)
    if suppression is None:
        return torch.arange(len(scores), device=scores.device), scores.float()

    iou = _iou(torch.from_numpy(intersections)).numpy()
    weights = _weights(iou, suppression, suppression_threshold, sigma)
    kept, lowered = _choose_greedily(
        # The reference multiplies in double precision too.
        scores.detach().double().cpu().numpy(),
        category_ids.cpu().numpy(),
        weights,
        score_threshold,
    )
    indices = torch.from_numpy(kept).to(scores.device)
    return indices, torch.from_numpy(lowered[kept]).to(scores.device, torch.float32)


def intersections_within_categories(masks: Tensor, category_ids: Tensor) -> IntArray:
    """Common pixels of all pairs of masks, or of one block of their pixels.

    Counts of blocks add up to those of the whole masks.

    Args:
        masks: bool [n, ...], of one image.
        category_ids: int [n].

    Returns:
        int64 [n, n]; 0 for masks of different categories, whose overlap is not needed.
    """
    counted = _no_intersections(masks, category_ids)
    for category in torch.unique(category_ids):
        members = torch.nonzero(category_ids == category)[:, 0]
        places = members.cpu().numpy()
        counted[np.ix_(places, places)] = _intersections(masks[members]).cpu().numpy()
    return counted


def pairwise_iou(masks: Tensor) -> Tensor:
    """Intersection over union of all pairs of masks.

    Args:
        masks: bool [n, H, W].

    Returns:
        float64 [n, n] in 0..1, on the same device; 0 for two empty masks, also on the diagonal.
    """
    return _iou(_intersections(masks))


def _no_intersections(masks: Tensor, category_ids: Tensor) -> IntArray:
    return np.zeros((len(masks), len(category_ids)), dtype=np.int64)


def _intersections(masks: Tensor) -> Tensor:
    """Common pixels of all pairs of masks, bool [n, ...]: int64 [n, n] on their device."""
    flat = masks.flatten(1)
    if masks.device.type == "cpu":
        return torch.from_numpy(_intersections_of_bits(flat.numpy()))
    return _intersections_by_products(flat)


def _iou(intersection: Tensor) -> Tensor:
    """From the intersections, int64 [n, n], in pixels."""
    areas = intersection.diagonal()
    union = areas[:, None] + areas[None, :] - intersection
    return intersection.double() / (union.double() + _EPSILON)


def _intersections_of_bits(flat: npt.NDArray[np.bool_]) -> IntArray:
    """Common pixels of all pairs of masks [n, pixels]: eight pixels a byte, eight bytes a word."""
    n, pixels = flat.shape
    words = -(-pixels // 64)
    packed = np.zeros((n, 8 * words), np.uint8)
    packed[:, : -(-pixels // 8)] = np.packbits(flat, axis=1)
    bits = packed.view(np.uint64)
    intersection = np.zeros((n, n), np.int64)
    for start in range(0, words, _WORDS_AT_ONCE):
        part = bits[:, start : start + _WORDS_AT_ONCE]
        common = np.bitwise_count(part[:, None] & part[None, :])
        intersection += common.sum(axis=-1, dtype=np.uint16)
    return intersection


def _intersections_by_products(flat: Tensor) -> Tensor:
    """The same as a matrix product, which a GPU is good at: int64 [n, n]."""
    n, pixels = flat.shape
    intersection = torch.zeros((n, n), dtype=torch.int64, device=flat.device)
    step = max(1, _PIXELS_AT_ONCE // max(1, n))
    # Reduced precision would round the counts, not only the factors.
    with torch.no_grad(), autocast(flat.device, "float32"):
        for start in range(0, pixels, step):
            part = flat[:, start : start + step].float()
            intersection += (part @ part.T).to(torch.int64)
    return intersection


def check_suppression(
    suppression: str | None, suppression_threshold: float, sigma: float, score_threshold: float
) -> None:
    """Raises ValueError for an unknown suppression or a setting outside its range."""
    if suppression is not None and suppression not in get_args(Suppression):
        raise ValueError(f"suppression must be hard, linear, gaussian or None, got {suppression!r}")
    if not 0 <= suppression_threshold <= 1:
        raise ValueError(f"suppression_threshold must be in 0..1, got {suppression_threshold}")
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    if not score_threshold >= 0:
        raise ValueError(f"score_threshold must be at least 0, got {score_threshold}")


def _check_candidates(masks: Tensor, scores: Tensor, category_ids: Tensor) -> None:
    if masks.dtype != torch.bool or masks.ndim != 3:
        raise ValueError(f"masks must be bool [n, H, W], got {masks.dtype} {list(masks.shape)}")
    for name, tensor in (("scores", scores), ("category_ids", category_ids)):
        if tensor.shape != masks.shape[:1]:
            raise ValueError(
                f"{name} must have one value for each of {len(masks)} masks, "
                f"got {list(tensor.shape)}"
            )
    if not torch.isfinite(scores).all():
        raise ValueError("scores must be finite, got NaN or infinity")


def _weights(
    iou: FloatArray, suppression: Suppression, suppression_threshold: float, sigma: float
) -> FloatArray:
    """The factor on one mask's score when another one is kept, [n, n]."""
    if suppression == "gaussian":
        return np.exp(-(iou**2) / sigma)
    overlapping = 0.0 if suppression == "hard" else 1.0 - iou
    return np.where(iou > suppression_threshold, overlapping, 1.0)


def _choose_greedily(
    scores: FloatArray,
    category_ids: npt.NDArray[np.integer],
    weights: FloatArray,
    score_threshold: float,
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Indices of the masks that are kept, rising, and all scores after suppression."""
    scores = scores.copy()
    remaining = np.ones(len(scores), dtype=bool)
    kept = np.zeros(len(scores), dtype=bool)
    while remaining.any():
        best = np.argmax(np.where(remaining, scores, -np.inf))  # the first of equal ones
        kept[best] = True
        remaining[best] = False
        rivals = np.flatnonzero(remaining & (category_ids == category_ids[best]))
        scores[rivals] *= weights[best, rivals]
        # Only rivals have to pass: as in the reference, the best mask of a category is kept
        # however low its score is.
        remaining[rivals] = scores[rivals] > score_threshold
    return np.flatnonzero(kept), scores
