"""Snapping a mask to image edges: the fast bilateral solver (Barron and Poole 2016).

Pixels that are close in place and colour share one vertex of a sparse five-dimensional grid; a
smooth solution is found on the vertices and read off at the pixels. Parameters and every oddity
that changes numbers are those of the ZUTIS reference (`utils/bilateral_solver.py`). Here no matrix
is built: the system is a graph's Laplacian, whose products need neighbours and scales only.
`batched_bilateral_solver` does the same for a batch, in PyTorch.

Dimensions:
    h, w  image rows, columns
    v     vertices: cells of the grid that hold a pixel
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zutis_model.layers.compilation import compiled
from zutis_model.refinement.bilateral_grid import (
    NUM_NEIGHBOURS,
    ColourGrid,
    FloatArray,
    IndexArray,
    build_grid,
)

BISTOCHASTIC_ITERATIONS = 10
# The blur's kernel is 1 2 1 in each of five dimensions, summed over dimensions.
CENTRE_WEIGHT = float(NUM_NEIGHBOURS)
SMALLEST_DIAGONAL = 1e-5  # of the preconditioner


def refine_mask(
    image: npt.NDArray[np.uint8],
    target: npt.NDArray[np.generic],
    *,
    sigma_spatial: float = 16.0,
    sigma_luma: float = 16.0,
    sigma_chroma: float = 8.0,
    smoothness: float = 256.0,
    confidence: float = 0.999,
    max_iterations: int = 25,
    tolerance: float = 1e-5,
) -> FloatArray:
    """The mask that is close to `target` and smooth where the image is.

    The same arguments give the same bits, also from several threads at once; none waits for
    another. The first call ever on a machine compiles for some seconds.

    Args:
        image: uint8 [h, w, 3], RGB; any size from one pixel.
        target: [h, w], bool or finite real numbers; 0 background, 1 mask, or soft in between.
        sigma_spatial: side of a grid cell, pixels.
        sigma_luma: side of a grid cell, grey levels.
        sigma_chroma: side of a grid cell, chroma levels.
        smoothness: weight of the smoothness term (lambda); at least 0.
        confidence: weight of the target, the same for all pixels; above 0.
        max_iterations: of the conjugate gradient. It usually ends here, before it converges, so
            the number is part of the result.
        tolerance: relative residual at which it ends earlier.

    Returns:
        float64 [h, w], 0..1 up to rounding, no NaN; the refined mask is `soft > 0.5`.

    Raises:
        ValueError: image or target have another shape or type, or differ in size; the target
            holds NaN or an infinity; a parameter is out of its range.
    """
    _check_arrays(image, target)
    check_parameters(
        sigma_spatial=sigma_spatial,
        sigma_luma=sigma_luma,
        sigma_chroma=sigma_chroma,
        confidence=confidence,
        smoothness=smoothness,
    )

    grid = build_grid(image, sigma_spatial, ColourGrid(sigma_luma, sigma_chroma))
    sums = grid.splat(target)
    normaliser, degree = _bistochastise(grid.neighbours, grid.pixel_counts)
    solution = _conjugate_gradient(
        grid.neighbours,
        math.sqrt(smoothness) * normaliser,
        smoothness * degree + confidence * grid.pixel_counts,
        confidence * sums,
        # Since it ends before convergence, start and preconditioner matter as much as the system.
        sums / grid.pixel_counts,
        max_iterations,
        float(tolerance),
    )
    return grid.slice(solution)


def check_parameters(*, smoothness: float, **above_zero: float) -> None:
    """Raise ValueError for a parameter out of its range, naming it."""
    for name, value in above_zero.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
    if not smoothness >= 0:
        raise ValueError(f"smoothness must be at least 0, got {smoothness}")


def _check_arrays(image: npt.NDArray[np.uint8], target: npt.NDArray[np.generic]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be uint8 [h, w, 3], got {image.dtype} {image.shape}")
    if target.shape != image.shape[:2]:
        raise ValueError(f"target {target.shape} and image {image.shape} differ in size")
    if target.dtype.kind not in "biuf":
        raise ValueError(f"target must be bool or real numbers, got {target.dtype}")
    if target.dtype.kind == "f" and not np.isfinite(target).all():
        raise ValueError("target must be finite, but holds NaN or an infinity")


@compiled
def _neighbour_sum(neighbours: IndexArray, vertex: int, values: FloatArray) -> float:
    """Sum of `values` [v + 1] at a vertex's neighbours; the last value, 0, is no vertex's."""
    n = neighbours[vertex]
    total: float = (
        ((values[n[0]] + values[n[1]]) + (values[n[2]] + values[n[3]]))
        + ((values[n[4]] + values[n[5]]) + (values[n[6]] + values[n[7]]))
        + (values[n[8]] + values[n[9]])
    )
    return total


@compiled
def _bistochastise(
    neighbours: IndexArray, pixel_counts: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Scales that make the blur (nearly) doubly stochastic, float64 [v] each.

    Returns:
        normaliser: multiplies the blur from both sides.
        degree: the row sums of the normalised blur without its centre. Taken from the normaliser
            as it is, not from the limit: a constant mask is a solution however early this stops.
    """
    vertices = len(pixel_counts)
    normaliser, following = np.ones(vertices + 1), np.zeros(vertices + 1)
    normaliser[vertices] = 0.0
    for _ in range(BISTOCHASTIC_ITERATIONS):
        for i in range(vertices):
            blurred = CENTRE_WEIGHT * normaliser[i] + _neighbour_sum(neighbours, i, normaliser)
            following[i] = math.sqrt(normaliser[i] * pixel_counts[i] / blurred)
        normaliser, following = following, normaliser
    degree = np.empty(vertices)
    for i in range(vertices):
        degree[i] = normaliser[i] * _neighbour_sum(neighbours, i, normaliser)
    return normaliser[:vertices].copy(), degree


@compiled
def _multiply(
    neighbours: IndexArray,
    scale: FloatArray,
    diagonal: FloatArray,
    vector: FloatArray,
    scaled: FloatArray,
    product: FloatArray,
) -> float:
    """Write system · vector to `product`; return vector · product. `scaled` [v + 1] is scratch."""
    for i in range(len(vector)):
        scaled[i] = scale[i] * vector[i]
    inner = 0.0
    for i in range(len(vector)):
        product[i] = diagonal[i] * vector[i] - scale[i] * _neighbour_sum(neighbours, i, scaled)
        inner += vector[i] * product[i]
    return inner


@compiled
def _inner_products(residual: FloatArray, preconditioner: FloatArray) -> tuple[float, float]:
    """The residual's with itself, and with itself preconditioned."""
    squared_norm = inner = 0.0
    for i in range(len(residual)):
        square = residual[i] * residual[i]
        squared_norm += square
        inner += preconditioner[i] * square
    return squared_norm, inner


@compiled
def _conjugate_gradient(
    neighbours: IndexArray,
    scale: FloatArray,
    diagonal: FloatArray,
    right_side: FloatArray,
    start: FloatArray,
    max_iterations: int,
    tolerance: float,
) -> FloatArray:
    """Solve, as SciPy's `cg` does: from `start`, the diagonal as preconditioner, float64 [v].

    The system is the diagonal, and -scale[i] · scale[j] where i and j are neighbours. It ends when
    the residual's 2-norm is `tolerance` times the right side's, tested before each iteration.
    """
    solution, direction = start.copy(), np.zeros_like(start)
    product, scaled = np.empty_like(start), np.zeros(len(start) + 1)
    preconditioner = 1.0 / np.maximum(diagonal, SMALLEST_DIAGONAL)
    _multiply(neighbours, scale, diagonal, solution, scaled, product)
    residual = right_side - product
    limit = tolerance * math.sqrt(np.sum(right_side * right_side))
    previous = math.inf
    for _ in range(max_iterations):
        squared_norm, inner = _inner_products(residual, preconditioner)
        if math.sqrt(squared_norm) <= limit:
            break
        ratio = inner / previous  # 0 in the first round
        for i in range(len(start)):
            direction[i] = preconditioner[i] * residual[i] + ratio * direction[i]
        step = inner / _multiply(neighbours, scale, diagonal, direction, scaled, product)
        for i in range(len(start)):
            solution[i] += step * direction[i]
            residual[i] -= step * product[i]
        previous = inner
    return solution
