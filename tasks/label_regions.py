"""Instances of a label map that knows none: the connected regions of each category.

Dimensions:
    h, w  rows, columns of the picture
    r, c  rows, columns of tokens
    k     categories, without the background
    d     width of the joint embedding
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.instance_prediction import Instances

# As many as COCO counts in an image, and as ZUTIS has queries.
_MOST_REGIONS = 100
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def regions_as_instances(
    labels: NDArray[np.int64], certainty: NDArray[np.float32], *, most: int = _MOST_REGIONS
) -> Instances:
    """Take every connected region of a category for an instance.

    Args:
        labels: int [h, w]: 0 background, 1..k categories.
        certainty: float [h, w] in 0..1, of the labels.
        most: at most so many regions, those of the highest scores.

    Returns:
        By falling score (equal ones by category, then from top to bottom); a score is the mean
        certainty inside. Pixels that touch at a corner are connected.
    """
    import torch

    from zutis_model.instance_prediction import Instances

    regions, category_ids = _regions(labels)
    numbers = np.arange(1, len(category_ids) + 1)
    scores = ndimage.mean(certainty, regions, numbers) if len(numbers) else np.empty(0)
    chosen = np.lexsort((numbers, -np.asarray(scores)))[:most]
    masks = regions[None] == numbers[chosen, None, None]
    slices = ndimage.find_objects(regions)
    boxes = [_box(*slices[index]) for index in chosen]
    return Instances(
        category_ids=torch.from_numpy(category_ids[chosen]),
        scores=torch.from_numpy(np.asarray(scores)[chosen].astype(np.float32)),
        masks=torch.from_numpy(masks),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
    )


def label_probabilities(
    tokens: Tensor,
    text_embeddings: Tensor,
    size: tuple[int, int],
    *,
    scale: float,
    bias: float | None = None,
) -> Tensor:
    """How sure each pixel of one picture is of its label.

    Few maps of full resolution are held at a time, as in `semantic_labels`.

    Args:
        tokens: float [1, r, c, d], unit norm.
        text_embeddings: float [k + 1, d], unit rows.
        size: (h, w) of the result.
        scale: what cosines are multiplied with; CLIP's `logit_scale`.
        bias: of a model that was trained with a sigmoid, its `logit_bias`; None: a softmax.

    Returns:
        float32 [h, w] in 0..1: the probability of the best category.
    """
    import torch

    from zutis_model.semantic_prediction import semantic_logits

    at_once = max(1, 2**23 // (size[0] * size[1]))
    best = total = torch.full(size, -torch.inf, device=tokens.device)
    for some in torch.split(text_embeddings, at_once):
        logits = scale * semantic_logits(tokens, some, size)[0]
        best = torch.maximum(best, logits.amax(dim=0))
        total = torch.logaddexp(total, logits.logsumexp(dim=0))
    return (best - total).exp() if bias is None else torch.sigmoid(best + bias)


def _regions(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Region numbers from 1, int64 [h, w], rising by category; and each region's category."""
    regions = np.zeros(labels.shape, dtype=np.int64)
    category_ids: list[int] = []
    for category in np.unique(labels[labels > 0]).tolist():
        found, count = ndimage.label(labels == category, structure=_EIGHT_NEIGHBOURS)
        np.copyto(regions, found + len(category_ids), where=found > 0)
        category_ids += [category] * count
    return regions, np.array(category_ids, dtype=np.int64)


def _box(rows: slice, columns: slice) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the outermost pixels."""
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1
