"""Prediction computed as the ZUTIS reference does it: the baseline of `instance_prediction`.

The same instances and labels as `zutis_model.zutis.instance_prediction` and `semantic_prediction`,
by the operations of the reference (`networks/zutis.py`, `predict` and `non_maximum_suppression`,
`utils/iou.py`): the tokens of every mask are multiplied out before they are added up, the masks of
the background are upsampled too, and overlaps are computed pair by pair, as often as a pair meets
again, over all pixels; semantic maps of all categories are upsampled at once.

Dimensions: as in `zutis_model.zutis.instance_prediction`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import masks_to_boxes

Mask = npt.NDArray[np.bool_]

_THRESHOLD = 0.5
_TEMPERATURE = 5.0
_SUPPRESSION_THRESHOLD = 0.3
_SIGMA = 0.5
_SCORE_THRESHOLD = 0.001
_EPSILON = 1e-7


@torch.no_grad()
def reference_instances(
    mask_proposals: Tensor,
    patch_tokens: Tensor,
    text_embeddings: Tensor,
    size: tuple[int, int],
    suppression: str | None,
) -> list[list[dict[str, Any]]]:
    """The instances of each image, in COCO's format, by category in any order, then by score.

    Args:
        mask_proposals: float32 [b, q, h, w] in 0..1.
        patch_tokens: float32 [b, h, w, d].
        text_embeddings: float32 [k, d].
        size: (H, W) of the masks.
        suppression: `hard`, `linear`, `gaussian` or None.
    """
    category_ids, scores = _classify(mask_proposals, patch_tokens, text_embeddings)
    upsampled = F.interpolate(mask_proposals, size=size, mode="bilinear")
    masks = (upsampled > _THRESHOLD).numpy()
    return [
        [
            _record(category_id, score, mask)
            for category_id, score, mask in _chosen(*image, suppression)
            if mask.sum() > 0
        ]
        for image in zip(masks, scores, category_ids, strict=True)
    ]


@torch.no_grad()
def reference_labels(
    patch_tokens: Tensor, text_embeddings: Tensor, size: tuple[int, int]
) -> Tensor:
    """The most similar category of every pixel, int64 [b, H, W], from all maps at full size."""
    maps = torch.einsum("kd,bdhw->bkhw", text_embeddings, patch_tokens.permute(0, 3, 1, 2))
    return F.interpolate(maps, size=size, mode="bilinear").argmax(dim=1)


def _classify(
    proposals: Tensor, tokens: Tensor, text_embeddings: Tensor
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Category and score of every proposal, [b, q] each."""
    masks = proposals > _THRESHOLD
    areas = masks.sum(dim=(-2, -1))
    confidences = (proposals * masks).sum(dim=(-2, -1)) / (areas + _EPSILON)
    pooled = (tokens[:, None] * masks[..., None]).sum(dim=(2, 3)) / (areas[..., None] + _EPSILON)
    directions = pooled / (pooled.norm(dim=-1, keepdim=True) + _EPSILON)
    cosines = torch.einsum("kd,bqd->bqk", text_embeddings, directions)
    probabilities = torch.sigmoid(_TEMPERATURE * cosines)
    scores = confidences * probabilities.max(dim=-1).values
    return probabilities.argmax(dim=-1).numpy(), scores.numpy()


def _chosen(
    masks: Mask,
    scores: npt.NDArray[np.float32],
    category_ids: npt.NDArray[np.int64],
    suppression: str | None,
) -> Iterator[tuple[int, float, Mask]]:
    """Category, score and mask of an image's remaining proposals."""
    for category_id in set(category_ids) - {0}:
        members = np.flatnonzero(category_ids == category_id)
        if suppression is None:
            kept = list(zip(scores[members], masks[members], strict=True))
        else:
            kept = _suppress(masks[members], scores[members], suppression)
        for score, mask in kept:
            yield int(category_id), float(score), mask


def _suppress(
    masks: Mask, scores: npt.NDArray[Any], suppression: str
) -> list[tuple[np.floating[Any], Mask]]:
    """Scores and masks that are kept, of one category."""
    kept = []
    while len(masks) > 0:
        order = np.argsort(scores)
        masks, scores = masks[order], scores[order]
        best = masks[-1]
        kept.append((scores[-1], best))
        rivals = []
        for mask, score in zip(masks[:-1], scores[:-1], strict=True):
            lowered = score * _weight(_iou(mask, best), suppression)
            if lowered > _SCORE_THRESHOLD:
                rivals.append((lowered, mask))
        if not rivals:
            break
        scores = np.array([score for score, _ in rivals])
        masks = np.stack([mask for _, mask in rivals])
    return kept


def _weight(iou: float, suppression: str) -> float:
    if suppression == "gaussian":
        return float(np.exp(-(iou**2) / _SIGMA))
    if iou <= _SUPPRESSION_THRESHOLD:
        return 1
    return 0 if suppression == "hard" else 1 - iou


def _iou(mask: Mask, other: Mask) -> float:
    # Pixels may be marked as ignored. Here none is, but all are checked and copied.
    counted = np.logical_and(other >= 0, other <= 1)
    mask, other = mask[counted], other[counted]
    intersection, union = np.logical_and(mask, other).sum(), np.logical_or(mask, other).sum()
    return float(intersection / (union + _EPSILON))


def _record(category_id: int, score: float, mask: Mask) -> dict[str, Any]:
    return {
        "category_id": category_id,
        "score": score,
        "segmentation": coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
        "bbox": masks_to_boxes(torch.from_numpy(mask)[None])[0].tolist(),
    }
