"""Scores of a CLIP on annotated images: zero-shot accuracy, retrieval precision, MaskCLIP's IoU.

Text embeddings are those of retrieval: the mean over a category's name in the 85 prompt templates
of `storage.vocabularies.prompt_templates`.

Dimensions:
    n     images
    k     categories
    h, w  rows, columns of an image
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.vocabularies.prompt_templates import TEMPLATES
from tasks.categories.category_texts import as_categories, embed_categories

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.clip.towers import Clip

Pixels = NDArray[np.uint8]

_AT_ONCE = 128


def similarities(clip: Clip, images: Sequence[Pixels], names: Sequence[str]) -> NDArray[np.float32]:
    """Cosines of images and category names: float32 [n, k].

    Args:
        clip: the model.
        images: n of uint8 [h, w, 3], RGB, any sizes.
        names: k of them.
    """
    import torch
    from PIL import Image

    texts = embed_categories(clip, as_categories(names), TEMPLATES)[1:]
    rows = []
    for start in range(0, len(images), _AT_ONCE):
        some = images[start : start + _AT_ONCE]
        inputs = torch.stack([clip.preprocess(Image.fromarray(pixels)) for pixels in some])
        rows.append(clip.embed_images(inputs) @ texts.T)
    found: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
    return found


def zero_shot_accuracy(cosines: NDArray[np.float32], shows: NDArray[np.bool_]) -> float:
    """Top-1 accuracy on the images that show exactly one category.

    Args:
        cosines: float32 [n, k].
        shows: bool [n, k]: which image shows which category. Images with no category or several
            are not counted.

    Returns:
        0..1; NaN where no image is counted.
    """
    single = shows.sum(axis=1) == 1
    right = cosines[single].argmax(axis=1) == shows[single].argmax(axis=1)
    return float(right.mean()) if len(right) else float("nan")


def retrieval_precision(
    cosines: NDArray[np.float32], shows: NDArray[np.bool_], at: int
) -> NDArray[np.float64]:
    """Precision at `at`: the share of each category's nearest images that show it, float64 [k].

    Args:
        cosines, shows: as for `zero_shot_accuracy`; n is at least `at`.
    """
    nearest = np.argsort(-cosines, axis=0, kind="stable")[:at]
    shares: NDArray[np.float64] = np.take_along_axis(shows, nearest, axis=0).mean(axis=0)
    return shares


def maskclip_iou(
    clip: Clip,
    images: Sequence[Pixels],
    labels: Sequence[NDArray[np.int64]],
    names: Sequence[str],
) -> float:
    """Mean IoU, 0..1, of MaskCLIP, which needs no training, over the background and k categories.

    Images pass the network at their own size, as in the evaluation of ZUTIS.

    Args:
        clip: whose image tower has patch tokens.
        images: n of uint8 [h, w, 3], RGB.
        labels: n of int64 [h, w]: 0 background, 1..k categories.
        names: k of them.
    """
    import torch

    from zutis_model.baselines.maskclip import maskclip_tokens
    from zutis_model.scores.segmentation_metrics import ConfusionMatrix
    from zutis_model.zutis.semantic_prediction import semantic_labels

    texts: Tensor = embed_categories(clip, as_categories(names), TEMPLATES)
    counts = ConfusionMatrix(len(texts))
    for pixels, truth in zip(images, labels, strict=True):
        batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        tokens = maskclip_tokens(clip, clip.normalise(batch))
        height, width = truth.shape
        counts.update(truth, semantic_labels(tokens, texts, (height, width))[0].cpu().numpy())
    return counts.scores().mean_iou
