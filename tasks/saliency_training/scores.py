"""How good masks of what is salient are, where the truth is known.

Dimensions:
    h, w  rows, columns of a picture
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
    """Intersection over union, 0..1, averaged over the pictures whose truth is not empty.

    Args:
        masks: bool [h, w] of each picture.
        truths: likewise; of another size than the mask, it is resized (nearest neighbour).

    Returns:
        0..1; NaN where no truth has anything in it.
    """
    scores = [
        iou(mask, at_size(truth, (mask.shape[0], mask.shape[1])))
        for mask, truth in zip(masks, truths, strict=True)
        if truth.any()
    ]
    return float(np.mean(scores)) if scores else float("nan")


def network_iou(
    network: SelfMask,
    pictures: Sequence[Pixels],
    truths: Sequence[Mask],
    *,
    image_size: int,
    at_most: int,
) -> tuple[float, float]:
    """`mean_iou` of a network's masks, as they are and after refinement.

    Args:
        network: trained.
        pictures: uint8 [h, w, 3], RGB.
        truths: bool [h, w] of each.
        image_size: pixels of the shorter side that the network sees.
        at_most: pictures; the first ones whose truth is not empty.
    """
    pairs = [(pixels, truth) for pixels, truth in zip(pictures, truths, strict=True) if truth.any()]
    images, expected = [pixels for pixels, _ in pairs[:at_most]], [mask for _, mask in pairs]
    masks = [soft > 0.5 for soft in salient_masks(network, images, image_size)]
    snapped = [refined(pixels, mask) for pixels, mask in zip(images, masks, strict=True)]
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
