"""Instances from a label map: the connected regions of each category.

Dimensions:
    h, w  rows, columns of the image
    r, c  rows, columns of tokens
    k     categories, without the background
    d     width of the joint embedding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.zutis.instance_prediction import Instances
    from zutis_model.zutis.run_length_masks import RunLengthMasks

# COCO's limit of detections per image, and ZUTIS's number of queries.
_MOST_REGIONS = 100
_LOGITS_AT_ONCE = 2**23
_PIXELS_AT_ONCE = 2**22
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def regions_as_instances(
    labels: NDArray[np.int64], certainty: NDArray[np.float32], *, most: int = _MOST_REGIONS
) -> Instances:
    """The connected regions of each category, as instances.

    Args:
        labels: int [h, w]: 0 background, 1..k categories.
        certainty: float [h, w] in 0..1, of the labels.
        most: limit of the regions, of which those of the highest scores are returned.

    Returns:
        By falling score (ties by category, then from top to bottom); a region's score is its mean
        certainty. Pixels that touch at a corner are connected.
    """
    import torch

    from zutis_model.zutis.instance_prediction import Instances

    regions, category_ids = _regions(labels)
    numbers = np.arange(1, len(category_ids) + 1)
    scores = _means(certainty, regions, len(numbers))
    chosen = np.lexsort((numbers, -scores))[:most]
    slices = ndimage.find_objects(regions)
    boxes = [_box(*slices[index]) for index in chosen]
    return Instances(
        category_ids=torch.from_numpy(category_ids[chosen]),
        scores=torch.from_numpy(scores[chosen].astype(np.float32)),
        masks=_masks(regions, numbers[chosen]),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
    )


def _masks(regions: NDArray[np.int32], numbers: NDArray[np.int64]) -> Tensor | RunLengthMasks:
    """The masks of the regions with these numbers."""
    import torch

    from zutis_model.zutis.instance_prediction import MOST_PIXELS
    from zutis_model.zutis.run_length_masks import RunLengthMasks

    if len(numbers) * regions.size > MOST_PIXELS:
        return RunLengthMasks.of((regions == number for number in numbers), regions.shape)
    return torch.from_numpy(regions[None] == numbers[:, None, None])


def _means(
    certainty: NDArray[np.float32], regions: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    """The mean in each of the regions 1..count: float64 [count].

    Equal to `scipy.ndimage.mean` to the last bit, without its 24 bytes per pixel.
    """
    sums, sizes = np.zeros(count + 1), np.zeros(count + 1, dtype=np.int64)
    for some, values in zip(_in_rows(regions), _in_rows(certainty), strict=True):
        sizes += np.bincount(some.ravel(), minlength=count + 1)
        np.add.at(sums, some.ravel(), values.ravel())
    return np.asarray(sums[1:] / sizes[1:])


def _in_rows(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """[h, w] in blocks of a few rows."""
    step = max(1, _PIXELS_AT_ONCE // values.shape[1])
    for top in range(0, len(values), step):
        yield values[top : top + step]


def label_probabilities(
    tokens: Tensor,
    text_embeddings: Tensor,
    size: tuple[int, int],
    *,
    scale: float,
    bias: float | None = None,
) -> Tensor:
    """The probability of each pixel's label, for one image.

    Only a few maps of full resolution are in memory at a time, as in `semantic_labels`; for large
    images, only some columns of one.

    Args:
        tokens: float [1, r, c, d], unit norm.
        text_embeddings: float [k + 1, d], unit rows.
        size: (h, w) of the result.
        scale: factor of the cosines; CLIP's `logit_scale`.
        bias: `logit_bias` of a model trained with a sigmoid; None: a softmax.

    Returns:
        float32 [h, w] in 0..1: the probability of the best category.
    """
    import torch

    from zutis_model.zutis.semantic_prediction import semantic_logits, takes_strips

    at_once = max(1, _LOGITS_AT_ONCE // (size[0] * size[1]))
    if takes_strips(size):
        return _probabilities_in_strips(tokens, text_embeddings, size, scale=scale, bias=bias)
    best = total = torch.full(size, -torch.inf, device=tokens.device)
    for some in torch.split(text_embeddings, at_once):
        logits = scale * semantic_logits(tokens, some, size)[0]
        best = torch.maximum(best, logits.amax(dim=0))
        total = torch.logaddexp(total, logits.logsumexp(dim=0))
    return (best - total).exp() if bias is None else torch.sigmoid(best + bias)


def _probabilities_in_strips(
    tokens: Tensor,
    text_embeddings: Tensor,
    size: tuple[int, int],
    *,
    scale: float,
    bias: float | None,
) -> Tensor:
    """`label_probabilities` in strips of columns; equal up to rounding."""
    import torch

    from zutis_model.zutis.semantic_prediction import semantic_logits, upsampled_strips

    result = torch.empty(size, device=tokens.device)
    for columns, maps in upsampled_strips(semantic_logits(tokens, text_embeddings), size):
        best = torch.full(result[:, columns].shape, -torch.inf, device=tokens.device)
        total = best.clone()
        for one in maps:
            logits = scale * one[0]
            torch.maximum(best, logits, out=best)
            torch.logaddexp(total, logits, out=total)
        certain = (best - total).exp() if bias is None else torch.sigmoid(best + bias)
        result[:, columns] = certain
    return result


def _regions(labels: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Region numbers from 1, int32 [h, w], rising by category; and each region's category."""
    regions = np.zeros(labels.shape, dtype=np.int32)
    category_ids: list[int] = []
    for category in (np.flatnonzero(np.bincount(labels.ravel())[1:]) + 1).tolist():
        found, count = ndimage.label(labels == category, structure=_EIGHT_NEIGHBOURS)
        np.add(found, len(category_ids), out=regions, where=found > 0)
        category_ids += [category] * count
    return regions, np.array(category_ids, dtype=np.int64)


def _box(rows: slice, columns: slice) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the outermost pixels."""
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1
