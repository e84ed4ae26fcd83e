"""Spectral clusters of an image's patches: the regions that SelfMask's pseudo-masks are made of.

Shin et al. 2022, section 3.1, and the reference's `clusterings/spectral.py`
(github.com/NoelShin/selfmask): patches are the vertices of a graph whose edges are the cosines of
their features, scaled to 0..1; the first k generalised eigenvectors of its Laplacian embed every
patch in k dimensions, where k-means clusters them. Everything random has a seed of its own: equal
features give equal clusters.

Dimensions:
    r, c  patch rows, columns
    n     patches, r · c
    d     channels of a feature
    k     clusters
    s     starts of k-means
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_STARTS = 8
_ITERATIONS = 50
_FEW_PATCHES = 64  # up to which computing all eigenvectors takes no time
_SMALLEST_NORM = 1e-12


def spectral_clusters(
    features: npt.NDArray[np.floating], cluster_counts: Sequence[int] = (2, 3, 4)
) -> IntArray:
    """Cluster the patches of one image into k regions, for several k.

    Memory is n² numbers, and time grows likewise: up to about a thousand patches take some tens
    of milliseconds.

    Args:
        features: float [r, c, d], of any length.
        cluster_counts: each k at least 2 and at most n.

    Returns:
        int64 [len(cluster_counts), r, c]: the cluster of each patch, 0..k - 1. The numbering of
        clusters is arbitrary, and so are the clusters of a uniform image.

    Raises:
        ValueError: features of another shape or not finite, or a count out of its range.
    """
    if features.ndim != 3 or features.size == 0:
        raise ValueError(f"features must be [r, c, d], got {list(features.shape)}")
    if not np.isfinite(features).all():
        raise ValueError("features must be finite, but hold NaN or an infinity")
    rows, columns = features.shape[:2]
    for count in cluster_counts:
        if not 2 <= count <= rows * columns:
            raise ValueError(f"cluster_counts must be 2..{rows * columns}, got {count}")
    places = spectral_embedding(
        features.reshape(rows * columns, -1).astype(np.float64), max(cluster_counts, default=2)
    )
    labels = [k_means(places[:, :count], count) for count in cluster_counts]
    return np.array(labels, dtype=np.int64).reshape(-1, rows, columns)


def spectral_embedding(features: FloatArray, dimensions: int) -> FloatArray:
    """The first generalised eigenvectors of the patches' graph: L v = λ D v.

    Args:
        features: float64 [n, d].
        dimensions: how many, up to n; the first is constant.

    Returns:
        float64 [n, dimensions], by rising eigenvalue; signs are arbitrary.
    """
    affinity = _affinity(features)
    scale = affinity.sum(axis=1) ** -0.5
    # L v = λ D v is (1 - λ) u = D^-1/2 A D^-1/2 u with v = D^-1/2 u: the largest come first.
    affinity *= scale[:, None] * scale
    embedding: FloatArray = scale[:, None] * _largest_eigenvectors(affinity, dimensions)
    return embedding


def _affinity(features: FloatArray) -> FloatArray:
    """Cosines of all pairs, scaled to 0..1 over the image as in the reference: float64 [n, n]."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(norms, _SMALLEST_NORM)
    cosines = unit @ unit.T
    lowest, highest = cosines.min(), cosines.max()
    if highest - lowest < _SMALLEST_NORM:  # all alike
        return np.ones_like(cosines)
    affinity: FloatArray = (cosines - lowest) / (highest - lowest)
    return affinity


def _largest_eigenvectors(matrix: FloatArray, count: int) -> FloatArray:
    size = len(matrix)
    if size > max(_FEW_PATCHES, 4 * count):
        # The start is part of the result's last digits; ARPACK's own would be another each time.
        start = np.random.default_rng(0).standard_normal(size)
        try:
            values, vectors = eigsh(matrix, k=count, which="LA", v0=start)
        except ArpackNoConvergence:
            pass
        else:
            ordered: FloatArray = vectors[:, np.argsort(-values)]
            return ordered
    _, vectors = eigh(matrix, subset_by_index=(size - count, size - 1))
    falling: FloatArray = vectors[:, ::-1]
    return falling


def k_means(points: FloatArray, k: int) -> IntArray:
    """Lloyd's algorithm from several starts (k-means++) at once; the tightest result.

    Args:
        points: float64 [n, d], n at least k.
        k: clusters. Fewer come out only where there are fewer different points.

    Returns:
        int64 [n], 0..k - 1.
    """
    centres = np.stack([_spread_centres(points, k, seed) for seed in range(_STARTS)])  # [s, k, d]
    labels = np.full((_STARTS, len(points)), -1)
    for _ in range(_ITERATIONS):
        squares = _squared_distances(points, centres)
        nearest = squares.argmin(axis=2)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        centres = _means(points, labels, centres)
    best = int(_squared_distances(points, centres).min(axis=2).sum(axis=1).argmin())
    tightest: IntArray = labels[best].astype(np.int64)
    return tightest


def _spread_centres(points: FloatArray, k: int, seed: int) -> FloatArray:
    """k-means++: each next centre is a point, the likelier the farther from all so far."""
    random = np.random.default_rng(seed)
    chosen = [points[random.integers(len(points))]]
    for _ in range(k - 1):
        nearest = _squared_distances(points, np.array([chosen]))[0].min(axis=1)
        total = nearest.sum()
        chances = nearest / total if total > 0 else None
        chosen.append(points[random.choice(len(points), p=chances)])
    return np.array(chosen)


def _squared_distances(points: FloatArray, centres: FloatArray) -> FloatArray:
    """[n, d] and [s, k, d] to [s, n, k]."""
    squares: FloatArray = ((points[:, None] - centres[:, None]) ** 2).sum(axis=-1)
    return squares


def _means(points: FloatArray, labels: IntArray, centres: FloatArray) -> FloatArray:
    """New centres [s, k, d]; a cluster without points keeps its own."""
    members = (labels[:, :, None] == np.arange(centres.shape[1])).astype(np.float64)  # [s, n, k]
    counts = members.sum(axis=1)[..., None]
    means = np.einsum("snk,nd->skd", members, points) / np.maximum(counts, 1)
    return np.where(counts > 0, means, centres)
