"""Means of dense features inside a mask, around it, and elsewhere.

Cosines with a text are linear in unit-norm features, so the cosine of a mean is the mean of the
cosines: four vectors for each mask answer for every text how much better it fits the mask than
its surroundings, and no map has to be kept.

Dimensions:
    r, c  rows and columns of patches
    d     width of the embedding
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

_RING_PATCHES = 2


def pooled_features(
    tokens: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Mean features inside a mask, in a ring around it, in the rest of the image, and of all of it.

    A patch counts by the share of it that belongs to the mask; the ring are the patches within two
    of one that has a share, less their share.

    Args:
        tokens: [r, c, d], unit norm, of the whole image.
        mask: bool [h, w] of the same image, at least one pixel.

    Returns:
        float32 [4, d], not normalised. Where the ring or the rest has no patch, zeros.
    """
    share = patch_shares(mask, tokens.shape[:2])
    near = ndimage.binary_dilation(share > 0, iterations=_RING_PATCHES)
    ring = np.where(near, 1 - share, 0)
    rest = np.where(near, 0, np.float32(1))
    weights = np.stack([share, ring, rest, np.ones_like(share)]).reshape(4, -1).astype(np.float32)
    total = weights.sum(axis=1, keepdims=True)
    sums = weights @ tokens.reshape(-1, tokens.shape[-1])
    means = sums / np.maximum(total, np.finfo(np.float32).tiny)
    return np.asarray(means, dtype=np.float32)


def patch_shares(mask: npt.NDArray[np.bool_], grid: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Share of each patch that a mask covers, float32 [r, c] in 0..1."""
    rows, columns = grid
    shares = Image.fromarray(mask).convert("L").resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(shares, dtype=np.float32) / np.float32(255)
