"""The bilateral solver with the operations of the ZUTIS reference, to measure against.

It is written from a description of the reference (`utils/bilateral_solver.py`), step for step in
its order and with NumPy and SciPy as it does, so that it costs the same: float hashes of
coordinates are sorted, neighbours are searched once per dimension and direction, the pixels' sums
and the blur of each dimension are sparse matrices, the system is a product of sparse matrices, and
a second mask is made that is not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
_CELL = np.array([16.0, 16.0, 16.0, 8.0, 8.0])  # x, y, luma, chromas
_HASH_BASE = 255.0
_DIMENSIONS = 5
_BISTOCHASTIC_ITERATIONS = 10
_SMOOTHNESS = 256.0
_CONFIDENCE = 0.999
_MOST_ITERATIONS = 25
_TOLERANCE = 1e-5
_SMALLEST_DIAGONAL = 1e-5


@dataclass(frozen=True)
class _Matrices:
    """splat: sums over pixels, [v, n]; shifts: neighbours in each dimension, [v, v] each."""

    splat: sparse.csr_matrix
    shifts: list[sparse.csr_matrix]

    def blur(self, values):  # type: ignore[no-untyped-def] # a vector or a diagonal matrix
        blurred = 2 * _DIMENSIONS * values
        for shift in self.shifts:
            blurred = blurred + shift @ values
        return blurred


def soft_mask(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The soft mask before the threshold: uint8 [h, w, 3] and [h, w] to float64 [h, w]."""
    matrices = _matrices(_coordinates(image))
    confidence = np.full(target.size, _CONFIDENCE)
    weighted_target = confidence * target.ravel().astype(np.float64)
    weight, right_side = matrices.splat @ confidence, matrices.splat @ weighted_target
    start = matrices.splat @ weighted_target / weight  # it adds them up twice
    scale, mass = _bistochastic_scales(matrices)
    diagonal = sparse.diags(scale)
    laplacian = sparse.diags(mass) - diagonal @ matrices.blur(diagonal)
    system = _SMOOTHNESS * laplacian + sparse.diags(weight)
    jacobi = sparse.diags(1 / np.maximum(system.diagonal(), _SMALLEST_DIAGONAL))
    solution, _ = cg(
        system, right_side, x0=start, M=jacobi,
        maxiter=_MOST_ITERATIONS, rtol=_TOLERANCE, atol=0.0,
    )  # fmt: skip
    return (matrices.splat.T @ solution).reshape(target.shape)


def second_output(soft: np.ndarray) -> np.ndarray:
    """Holes filled, one region kept; every region is counted by itself."""
    labels, regions = ndimage.label(ndimage.binary_fill_holes(soft > 0.5))
    if regions == 0:
        return np.ones(soft.shape, dtype=bool)
    areas = [np.sum(labels == region) for region in range(regions + 1)]
    return labels == np.argsort(areas)[-2]


def _coordinates(image: np.ndarray) -> np.ndarray:
    """Every pixel's cell, int [n, 5]: x, y, luma, chromas."""
    yuv = np.tensordot(image, _TO_YUV, axes=([2], [1])) + np.array([0.0, 128.0, 128.0])
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return (np.dstack([x, y, yuv]) / _CELL).astype(int).reshape(-1, _DIMENSIONS)


def _matrices(coordinates: np.ndarray) -> _Matrices:
    powers = _HASH_BASE ** np.arange(_DIMENSIONS)
    hashes, first, vertex_of_pixel = np.unique(
        coordinates @ powers, return_index=True, return_inverse=True
    )
    pixels = np.arange(len(coordinates))
    splat = sparse.csr_matrix((np.ones(len(pixels)), (vertex_of_pixel, pixels)))
    cells = coordinates[first]
    shifts = []
    for dimension in range(_DIMENSIONS):
        step = np.zeros((1, _DIMENSIONS))
        step[0, dimension] = 1
        shifts.append(
            _links(hashes, (cells - step) @ powers) + _links(hashes, (cells + step) @ powers)
        )
    return _Matrices(splat, shifts)


def _links(hashes: np.ndarray, wanted: np.ndarray) -> sparse.csr_matrix:
    """One where the vertex of a column is the one that a row wants."""
    places = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    rows = np.flatnonzero(hashes[places] == wanted)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, places[rows])), shape=(len(hashes),) * 2)


def _bistochastic_scales(matrices: _Matrices) -> tuple[np.ndarray, np.ndarray]:
    counts = matrices.splat @ np.ones(matrices.splat.shape[1])
    scale = np.ones(len(counts))
    for _ in range(_BISTOCHASTIC_ITERATIONS):
        scale = np.sqrt(scale * counts / matrices.blur(scale))
    return scale, scale * matrices.blur(scale)
