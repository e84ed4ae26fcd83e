"""Snapping a mask to image edges: the fast bilateral solver (Barron and Poole 2016).

Pixels that are close in place and colour share one vertex of a sparse five-dimensional grid
(x, y, luma, two chromas); a smooth solution is found on the vertices and read off at the pixels.
Parameters and every oddity that changes numbers are those of the ZUTIS reference
(`utils/bilateral_solver.py`); the code is organised around one lookup table instead of sorting.

Dimensions:
    h, w  image rows, columns
    n     pixels, h·w
    v     vertices: cells of the grid that hold a pixel
    k     distinct binned colours in the image
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import cg

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]

# Full-range BT.601 (JPEG), with the reference's digits.
_RGB_TO_YUV = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.168736, -0.331264, 0.5],
        [0.5, -0.418688, -0.081312],
    ]
)
_YUV_OFFSET = np.array([0.0, 128.0, 128.0])

_GRID_DIMENSIONS = 5
_BISTOCHASTIC_ITERATIONS = 10
_SMALLEST_DIAGONAL = 1e-5  # of the preconditioner


@dataclass(frozen=True)
class _Grid:
    """The vertices that an image occupies.

    Attributes:
        vertex_of_pixel: int [n], row-major.
        pixel_counts: float64 [v].
        blur: float64 CSR [v, v]: in each dimension the kernel 1 2 1, summed over dimensions.
    """

    vertex_of_pixel: IndexArray
    pixel_counts: FloatArray
    blur: sparse.csr_array


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

    Args:
        image: uint8 [h, w, 3], RGB; any size from one pixel.
        target: [h, w], bool or number; 0 background, 1 mask, or soft in between.
        sigma_spatial: side of a grid cell, pixels.
        sigma_luma: side of a grid cell, grey levels.
        sigma_chroma: side of a grid cell, chroma levels.
        smoothness: weight of the smoothness term (lambda).
        confidence: weight of the target, the same for all pixels; above 0.
        max_iterations: of the conjugate gradient. It usually ends here, before it converges, so
            the number is part of the result.
        tolerance: relative residual at which it ends earlier.

    Returns:
        float64 [h, w], 0..1 up to rounding, no NaN; the refined mask is `soft > 0.5`.

    Raises:
        ValueError: image or target have another shape or type, or differ in size; a parameter
            that must be above 0 is not.
    """
    _check_arrays(image, target)
    _check_positive(
        sigma_spatial=sigma_spatial,
        sigma_luma=sigma_luma,
        sigma_chroma=sigma_chroma,
        confidence=confidence,
    )

    grid = _build_grid(image, sigma_spatial, sigma_luma, sigma_chroma)
    normaliser, mass = _bistochastise(grid)
    weight = confidence * grid.pixel_counts
    right_side = confidence * np.bincount(
        grid.vertex_of_pixel, weights=target.ravel().astype(np.float64, copy=False)
    )
    system = _system(grid.blur, normaliser, mass, weight, smoothness)
    preconditioner = sparse.diags_array(1 / np.maximum(system.diagonal(), _SMALLEST_DIAGONAL))
    # Since it ends before convergence, start and preconditioner matter as much as the system.
    vertex_solution: FloatArray = cg(
        system,
        right_side,
        x0=right_side / weight,
        M=preconditioner,
        maxiter=max_iterations,
        rtol=tolerance,
        atol=0.0,
    )[0]
    return vertex_solution[grid.vertex_of_pixel].reshape(target.shape)


def _check_arrays(image: npt.NDArray[np.uint8], target: npt.NDArray[np.generic]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be uint8 [h, w, 3], got {image.dtype} {image.shape}")
    if target.shape != image.shape[:2]:
        raise ValueError(f"target {target.shape} and image {image.shape} differ in size")


def _check_positive(**parameters: float) -> None:
    for name, value in parameters.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def _build_grid(
    image: npt.NDArray[np.uint8], sigma_spatial: float, sigma_luma: float, sigma_chroma: float
) -> _Grid:
    """Number the occupied cells and link the neighbours, by one lookup table over all cells.

    The table would be mostly empty with five dense dimensions, so the three of colour become
    one, of the k colours that occur. It is padded by an empty cell at each end of x and y and by
    an empty colour: a neighbour beyond the grid is then simply an empty cell.
    """
    height, width = image.shape[:2]
    y = (np.arange(height) / sigma_spatial).astype(np.intp)
    x = (np.arange(width) / sigma_spatial).astype(np.intp)
    colour_of_pixel, colour_neighbours = _compact_colours(
        _colour_bins(image, sigma_luma, sigma_chroma)
    )

    x_stride = len(colour_neighbours) + 1  # one more than there are colours: the empty colour
    y_stride = x_stride * (int(x[-1]) + 3)
    cell_of_pixel = ((y + 1) * y_stride)[:, None] + (x + 1) * x_stride
    cell_of_pixel = cell_of_pixel.ravel() + colour_of_pixel
    occupied = np.zeros(y_stride * (int(y[-1]) + 3), dtype=bool)
    occupied[cell_of_pixel] = True
    cells = np.flatnonzero(occupied)

    # Vertices count from 1 here, so that the zeros that memory starts with mean "empty" and
    # pages of the table without vertices are never touched.
    vertex_of_cell = np.zeros(occupied.size, dtype=np.int32)
    vertex_of_cell[cells] = np.arange(1, len(cells) + 1)
    vertex_of_pixel = vertex_of_cell[cell_of_pixel].astype(np.intp) - 1

    place, colour = cells - cells % x_stride, cells % x_stride
    neighbour_cells = np.column_stack(
        [
            *(cells + step for step in (-y_stride, -x_stride, x_stride, y_stride)),
            place[:, None] + colour_neighbours[colour],
        ]
    )
    return _Grid(
        vertex_of_pixel=vertex_of_pixel,
        pixel_counts=np.bincount(vertex_of_pixel).astype(np.float64),
        blur=_blur_matrix(vertex_of_cell[neighbour_cells] - 1),
    )


def _colour_bins(
    image: npt.NDArray[np.uint8], sigma_luma: float, sigma_chroma: float
) -> IndexArray:
    """Truncated luma and chroma bins, int [n, 3], all at least 0."""
    # A grey pixel lies exactly on a bin's edge, so rounding decides its bin: this must stay one
    # matrix product in float64, as in the reference. Written out per channel, or as exact
    # integers, some pixels change bins.
    yuv = image.reshape(-1, 3).astype(np.float64) @ _RGB_TO_YUV.T + _YUV_OFFSET
    bins: IndexArray = (yuv / (sigma_luma, sigma_chroma, sigma_chroma)).astype(np.intp)
    return bins


def _compact_colours(bins: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Number the binned colours that occur.

    Returns:
        colour of each pixel: int [n] in 0..k-1.
        neighbours of each colour: int [k, 6]: one bin down or up in each of the dimensions; k
            where that colour doesn't occur.
    """
    # Padded by one at both ends, as the grid is.
    _, size_u, size_v = extent = bins.max(axis=0) + 3
    strides = np.array([size_u * size_v, size_v, 1])
    code_of_pixel = (bins + 1) @ strides
    occurs = np.zeros(int(extent.prod()), dtype=bool)
    occurs[code_of_pixel] = True
    codes = np.flatnonzero(occurs)

    colour_of_code = np.full(occurs.size, len(codes), dtype=np.intp)
    colour_of_code[codes] = np.arange(len(codes))
    neighbour_codes = codes[:, None] + np.concatenate([-strides, strides])
    return colour_of_code[code_of_pixel], colour_of_code[neighbour_codes]


def _blur_matrix(neighbours: npt.NDArray[np.int32]) -> sparse.csr_array:
    """The blur of all dimensions, float64 CSR [v, v].

    Args:
        neighbours: int [v, 10], vertices one cell away; -1 where there is none.
    """
    vertices = len(neighbours)
    itself = np.arange(vertices, dtype=neighbours.dtype)[:, None]
    columns = np.hstack([itself, neighbours])
    present = columns >= 0
    values = np.ones(columns.shape)
    values[:, 0] = 2 * _GRID_DIMENSIONS
    row_starts = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(columns.dtype)
    return sparse.csr_array(
        (values[present], columns[present], row_starts), shape=(vertices, vertices)
    )


def _bistochastise(grid: _Grid) -> tuple[FloatArray, FloatArray]:
    """Diagonals that make the blur (nearly) doubly stochastic, float64 [v] each.

    Returns:
        normaliser: multiplies the blur from both sides.
        mass: the row sums of the normalised blur. They are the pixel counts in the limit; taken
            from the normaliser as it is, a constant mask is a solution however early this stops.
    """
    normaliser = np.ones_like(grid.pixel_counts)
    for _ in range(_BISTOCHASTIC_ITERATIONS):
        normaliser = np.sqrt(normaliser * grid.pixel_counts / (grid.blur @ normaliser))
    return normaliser, normaliser * (grid.blur @ normaliser)


def _system(
    blur: sparse.csr_array,
    normaliser: FloatArray,
    mass: FloatArray,
    weight: FloatArray,
    smoothness: float,
) -> sparse.csr_array:
    """Smoothness times (mass - normalised blur) + weight, float64 CSR [v, v]."""
    rows = np.repeat(np.arange(len(mass)), np.diff(blur.indptr))
    values = -smoothness * normaliser[rows] * blur.data * normaliser[blur.indices]
    # `_blur_matrix` puts the diagonal first in each row.
    values[blur.indptr[:-1]] += smoothness * mass + weight
    return sparse.csr_array((values, blur.indices, blur.indptr), shape=blur.shape)
