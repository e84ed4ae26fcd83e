"""Scores of saliency masks against ground truth.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tasks.saliency_training.patch_features import Pixels
from tasks.saliency_training.training import salient_masks
from tasks.saliency_training.votes import Mask, refined

if TYPE_CHECKING:
    from zutis_model.saliency.selfmask import SelfMask


def mean_iou(masks: Iterable[Mask], truths: Iterable[Mask]) -> float:
    """Mean intersection over union, 0..1, over the images whose ground truth is not empty.

    Args:
        masks: bool [h, w] of each image.
        truths: bool [h, w] of each image; resized (nearest neighbour) to its mask's size.

    Returns:
        0..1; NaN if all ground truths are empty.
    """
    scores = [
        iou(mask, at_size(truth, (mask.shape[0], mask.shape[1])))
        for mask, truth in zip(masks, truths, strict=True)
        if truth.any()
    ]
    return float(np.mean(scores)) if scores else float("nan")


def network_iou(
    network: SelfMask,
    images: Sequence[Pixels],
    truths: Sequence[Mask],
    *,
    image_size: int,
    at_most: int,
) -> tuple[float, float]:
    """`mean_iou` of a network's masks, before and after refinement.

    Args:
        network: trained.
        images: uint8 [h, w, 3], RGB.
        truths: bool [h, w] of each.
        image_size: shorter side of the network's input, pixels.
        at_most: number of images, the first ones whose ground truth is not empty.
    """
    pairs = [(pixels, truth) for pixels, truth in zip(images, truths, strict=True) if truth.any()]
    measured, expected = [pixels for pixels, _ in pairs[:at_most]], [mask for _, mask in pairs]
    masks = [soft > 0.5 for soft in salient_masks(network, measured, image_size)]
    snapped = [refined(pixels, mask) for pixels, mask in zip(measured, masks, strict=True)]
    return mean_iou(masks, expected[:at_most]), mean_iou(snapped, expected[:at_most])


def at_size(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask bool [h, w] at another size (rows, columns), by nearest neighbour."""
    if mask.shape == size:
        return mask
    resized = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(resized)


def iou(mask: Mask, truth: Mask) -> float:
    """Intersection over union, 0..1, of bool [h, w] each; 0 where both are empty."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 0.0
