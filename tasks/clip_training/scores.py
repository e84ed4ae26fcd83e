"""How good a CLIP is on pictures whose things are known: names, retrieval, and places.

Texts are what retrieval compares with: a category's name in the 85 sentences of
`storage.vocabularies.prompt_templates`, averaged.

Dimensions:
    n     pictures
    k     categories
    h, w  rows, columns of a picture
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


def similarities(
    clip: Clip, pictures: Sequence[Pixels], names: Sequence[str]
) -> NDArray[np.float32]:
    """Cosines of pictures and names: float32 [n, k].

    Args:
        clip: the model.
        pictures: n of uint8 [h, w, 3], RGB, any sizes.
        names: k of them.
    """
    import torch
    from PIL import Image

    texts = embed_categories(clip, as_categories(names), TEMPLATES)[1:]
    rows = []
    for start in range(0, len(pictures), _AT_ONCE):
        some = pictures[start : start + _AT_ONCE]
        inputs = torch.stack([clip.preprocess(Image.fromarray(pixels)) for pixels in some])
        rows.append(clip.embed_images(inputs) @ texts.T)
    found: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
    return found


def zero_shot_accuracy(cosines: NDArray[np.float32], shows: NDArray[np.bool_]) -> float:
    """The share of pictures with one kind of thing whose nearest name is that thing's.

    Args:
        cosines: float32 [n, k].
        shows: bool [n, k]: which pictures show what. Those with none or several don't count.

    Returns:
        0..1; NaN where no picture counts.
    """
    single = shows.sum(axis=1) == 1
    right = cosines[single].argmax(axis=1) == shows[single].argmax(axis=1)
    return float(right.mean()) if len(right) else float("nan")


def retrieval_precision(
    cosines: NDArray[np.float32], shows: NDArray[np.bool_], at: int
) -> NDArray[np.float64]:
    """For each name, the share that shows it among the `at` nearest pictures: float64 [k], 0..1.

    Args:
        cosines, shows: as for `zero_shot_accuracy`; n is at least `at`.
    """
    nearest = np.argsort(-cosines, axis=0, kind="stable")[:at]
    shares: NDArray[np.float64] = np.take_along_axis(shows, nearest, axis=0).mean(axis=0)
    return shares


def maskclip_iou(
    clip: Clip,
    pictures: Sequence[Pixels],
    labels: Sequence[NDArray[np.int64]],
    names: Sequence[str],
) -> float:
    """Mean IoU, 0..1, of MaskCLIP over the background and k names, with no training for it.

    Pictures pass the network at the size that they have, as in the evaluation of ZUTIS.

    Args:
        clip: whose image tower has patch tokens.
        pictures: n of uint8 [h, w, 3], RGB.
        labels: n of int64 [h, w]: 0 background, 1..k names.
        names: k of them.
    """
    import torch

    from zutis_model.baselines.maskclip import maskclip_tokens
    from zutis_model.scores.segmentation_metrics import ConfusionMatrix
    from zutis_model.zutis.semantic_prediction import semantic_labels

    texts: Tensor = embed_categories(clip, as_categories(names), TEMPLATES)
    counts = ConfusionMatrix(len(texts))
    for pixels, truth in zip(pictures, labels, strict=True):
        images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        tokens = maskclip_tokens(clip, clip.normalise(images))
        height, width = truth.shape
        counts.update(truth, semantic_labels(tokens, texts, (height, width))[0].cpu().numpy())
    return counts.scores().mean_iou
