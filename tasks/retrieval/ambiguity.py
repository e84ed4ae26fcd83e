"""Names that mean several things, and names that compete for the same images.

Dimensions:
    n  images of a category
    k  categories
    d  width of the joint embedding
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import sparse

_FEWEST: Final = 12
"""Images below which groups among them mean nothing."""
_LEAST_SHARE: Final = 0.1
_FAR_APART: Final = 0.4
"""Cosine of two groups' means, both less the mean of the corpus, below which they are two senses.
In the made world that of one kind's images is 0.77 or more, and of two kinds' 0.07 in the median,
below 0.33 for nine of ten pairs."""
_ROUNDS: Final = 20


def second_sense(images: np.ndarray, corpus: np.ndarray) -> np.ndarray | None:
    """Which images of a category show something else than its best one.

    The images are parted by 2-means, which begins at the sign of their first principal component.

    Args:
        images: [n, d], embeddings, the best first.
        corpus: [d], mean embedding of the corpus.

    Returns:
        bool [n], False for the first; None where the images are too few or of one kind: the smaller
        group has less than a tenth of them, or the groups are not far apart.
    """
    if len(images) < _FEWEST:
        return None
    centred = images - corpus
    other = _two_groups(centred)
    other = other != other[0]
    if not _LEAST_SHARE <= other.mean() <= 1 - _LEAST_SHARE:
        return None
    first, second = centred[~other].mean(axis=0), centred[other].mean(axis=0)
    cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
    return other if cosine < _FAR_APART else None


def shared_images(positions: Sequence[np.ndarray]) -> np.ndarray:
    """Share of each category's images that are among another's: float64 [k, k].

    Args:
        positions: int64 [n] of each category, its images in the index, none twice.
    """
    category = np.repeat(np.arange(len(positions)), [len(some) for some in positions])
    _, image = np.unique(np.concatenate(positions), return_inverse=True)
    has = sparse.csr_array((np.ones(len(image)), (category, image)))
    sizes = np.array([max(len(some), 1) for some in positions])
    return np.asarray((has @ has.T).toarray() / sizes[:, None])


def _two_groups(points: np.ndarray) -> np.ndarray:
    """bool [n], by Lloyd's algorithm."""
    spread = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(spread, full_matrices=False)
    group = spread @ axes[0] > 0
    for _ in range(_ROUNDS):
        if group.all() or not group.any():
            break
        means = points[~group].mean(axis=0), points[group].mean(axis=0)
        distances = [((points - mean) ** 2).sum(axis=1) for mean in means]
        nearer = distances[1] < distances[0]
        if (nearer == group).all():
            break
        group = nearer
    return np.asarray(group)
