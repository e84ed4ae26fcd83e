"""The fast bilateral solver for a batch of images at once, in PyTorch, for GPUs.

It solves what `bilateral_solver` solves, image by image, and ends each image's conjugate gradient
where it would end alone: the images' vertices are numbered together, the scalars are one an image.
Nothing adds concurrently: neighbours are gathered, and sums run over sorted values, segment by
segment. So no atomic operation makes last digits vary from run to run.

Dimensions:
    b     images in the batch
    h, w  image rows, columns
    v     vertices of all images: cells of the grid that hold a pixel, sorted by image
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from zutis_model.refinement.bilateral_grid import NUM_NEIGHBOURS, ColourGrid, spatial_bins
from zutis_model.refinement.bilateral_solver import (
    BISTOCHASTIC_ITERATIONS,
    CENTRE_WEIGHT,
    SMALLEST_DIAGONAL,
    check_parameters,
)


@dataclass(frozen=True)
class _Grid:
    """The vertices that a batch occupies.

    Gathers are by `index_select`, several times as fast as indexing on a CPU.

    Attributes:
        order: int64 [b·h·w], pixels sorted by vertex.
        vertex_of_pixel: int64 [b·h·w].
        pixel_counts: int64 [v].
        neighbours: int64 [v, 10], vertices one cell away; v where there is none.
        image_of_vertex: int64 [v].
        vertex_counts: int64 [b], vertices of each image.
    """

    order: Tensor
    vertex_of_pixel: Tensor
    pixel_counts: Tensor
    neighbours: Tensor
    image_of_vertex: Tensor
    vertex_counts: Tensor

    def splat(self, values: Tensor) -> Tensor:
        """Sums over the pixels of each vertex: float [b·h·w] to float [v]."""
        return _segment_sums(values.index_select(0, self.order), self.pixel_counts)

    def neighbour_sum(self, values: Tensor) -> Tensor:
        """Sums over each vertex's neighbours, float [v] to float [v]."""
        padded = torch.cat([values, values.new_zeros(1)])  # the last one is no pixel's
        gathered = padded.index_select(0, self.neighbours.flatten())
        return gathered.reshape(self.neighbours.shape).sum(dim=1)

    def slice(self, values: Tensor) -> Tensor:
        """Each pixel's vertex's value: float [v] to float [b·h·w]."""
        return values.index_select(0, self.vertex_of_pixel)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Each image's inner product of two vectors [v]: float [b]."""
        return _segment_sums(a * b, self.vertex_counts)

    def spread(self, scalars: Tensor) -> Tensor:
        """Each image's scalar at its vertices: [b] to [v]."""
        return scalars.index_select(0, self.image_of_vertex)


@torch.inference_mode()
def refine_masks_batched(
    images: Tensor,
    targets: Tensor,
    *,
    sigma_spatial: float = 16.0,
    sigma_luma: float = 16.0,
    sigma_chroma: float = 8.0,
    smoothness: float = 256.0,
    confidence: float = 0.999,
    max_iterations: int = 25,
    tolerance: float = 1e-5,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The masks that are close to `targets` and smooth where the images are.

    They agree with `bilateral_solver.refine_mask` to 1e-12, in float32 to some 1e-5. An image's
    result doesn't depend on its company, on a CPU to the last bit. Besides the batch's own memory,
    some 34 MB for each pair of colour sigmas (of the last four) stay on the device.

    Args:
        images: uint8 [b, 3, h, w], RGB; b, h and w at least 1.
        targets: [b, h, w], bool or finite real numbers, on the images' device; 0 background,
            1 mask, or soft in between.
        sigma_spatial, sigma_luma, sigma_chroma, smoothness, confidence, max_iterations, tolerance:
            as in `bilateral_solver.refine_mask`.
        dtype: of the arithmetic and the result, float64 or float32.

    Returns:
        `dtype` [b, h, w], 0..1 up to rounding; the refined masks are `soft > 0.5`.

    Raises:
        ValueError: images or targets have another shape or type, differ in size or device; a
            target holds NaN or an infinity; a parameter is out of its range.
    """
    _check_tensors(images, targets, dtype)
    check_parameters(
        sigma_spatial=sigma_spatial,
        sigma_luma=sigma_luma,
        sigma_chroma=sigma_chroma,
        confidence=confidence,
        smoothness=smoothness,
    )

    grid = _build_grid(images, sigma_spatial, ColourGrid(sigma_luma, sigma_chroma))
    sums = grid.splat(targets.flatten().to(dtype))
    counts = grid.pixel_counts.to(dtype)
    normaliser = _bistochastise(grid, counts)
    solution = _conjugate_gradient(
        grid,
        smoothness**0.5 * normaliser,
        # Row sums of the Laplacian plus the data's weight; see `bilateral_solver._bistochastise`.
        smoothness * normaliser * grid.neighbour_sum(normaliser) + confidence * counts,
        confidence * sums,
        sums / counts,
        max_iterations,
        tolerance,
    )
    return grid.slice(solution).reshape(targets.shape)


def _check_tensors(images: Tensor, targets: Tensor, dtype: torch.dtype) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be uint8 [b, 3, h, w], got {images.dtype} {list(images.shape)}"
        )
    if images.numel() == 0:
        raise ValueError(f"images {list(images.shape)} hold no pixel")
    if targets.shape != (images.shape[0], *images.shape[2:]):
        raise ValueError(
            f"targets {list(targets.shape)} and images {list(images.shape)} differ in size"
        )
    if targets.device != images.device:
        raise ValueError(f"targets are on {targets.device}, images on {images.device}")
    if targets.is_complex() or not targets.isfinite().all():
        raise ValueError("targets must be finite real numbers")
    if dtype not in {torch.float32, torch.float64}:
        raise ValueError(f"dtype must be float32 or float64, got {dtype}")


def _build_grid(images: Tensor, sigma_spatial: float, colour_grid: ColourGrid) -> _Grid:
    """Number the occupied cells in the order image, y, x, colour, and link neighbours."""
    batch, _, height, width = images.shape
    rows = torch.from_numpy(spatial_bins(height, sigma_spatial)).to(images.device)
    columns = torch.from_numpy(spatial_bins(width, sigma_spatial)).to(images.device)

    # As `ColourGrid`, padded by an empty bin at the ends of x and y: a neighbour beyond the grid
    # is then a cell that no pixel has, of this image or another.
    x_stride = colour_grid.num_cells
    y_stride = x_stride * (int(columns[-1]) + 3)
    image_stride = y_stride * (int(rows[-1]) + 3)
    places = (rows[:, None] + 1) * y_stride + (columns + 1) * x_stride
    numbers = torch.arange(batch, device=images.device)[:, None, None] * image_stride
    cell_of_pixel = (_colour_cells(images, colour_grid) + places + numbers).flatten()

    sorted_cells, order = cell_of_pixel.sort(stable=True)
    cells, vertex_of_sorted, pixel_counts = torch.unique_consecutive(
        sorted_cells, return_inverse=True, return_counts=True
    )
    image_ends = torch.arange(1, batch + 1, device=images.device) * image_stride
    vertex_ends = torch.searchsorted(cells, image_ends)
    return _Grid(
        order=order,
        vertex_of_pixel=torch.empty_like(order).scatter_(0, order, vertex_of_sorted),
        pixel_counts=pixel_counts,
        neighbours=_neighbours(cells, (*colour_grid.strides, x_stride, y_stride)),
        image_of_vertex=cells // image_stride,
        vertex_counts=vertex_ends.diff(prepend=vertex_ends.new_zeros(1)),
    )


def _colour_cells(images: Tensor, colour_grid: ColourGrid) -> Tensor:
    """Each pixel's colour cell, int64 [b, h, w]."""
    table = _cell_of_every_colour(colour_grid, images.device)
    red, green, blue = images.int().unbind(dim=1)
    colours = (red << 16) + (green << 8) + blue
    return table.index_select(0, colours.flatten()).long().reshape(colours.shape)


@lru_cache(maxsize=4)
def _cell_of_every_colour(colour_grid: ColourGrid, device: torch.device) -> Tensor:
    """Colour cells int16 or int32 [2^24], by 65,536 · red + 256 · green + blue.

    A colour's cell hangs on one rounding (see `bilateral_grid`), which PyTorch can't prescribe. So
    the cells of all colours are taken from there.
    """
    one_red = np.empty((256, 256, 3), dtype=np.uint8)
    one_red[..., 1], one_red[..., 2] = np.ogrid[:256, :256]
    small = colour_grid.num_cells <= np.iinfo(np.int16).max
    table = np.empty((256, 256, 256), dtype=np.int16 if small else np.int32)
    for red in range(256):
        one_red[..., 0] = red
        table[red] = colour_grid.cells(one_red)
    return torch.from_numpy(table.ravel()).to(device)


def _neighbours(cells: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Positions in `cells` (sorted, [v]) of those a stride below or above: int64 [v, 10]."""
    neighbours = cells.new_empty(len(cells), NUM_NEIGHBOURS)
    for i, step in enumerate(step for stride in strides for step in (-stride, stride)):
        wanted = cells + step
        found = torch.searchsorted(cells, wanted).clamp_(max=len(cells) - 1)
        exists = cells.index_select(0, found) == wanted
        neighbours[:, i] = torch.where(exists, found, len(cells))
    return neighbours


def _bistochastise(grid: _Grid, counts: Tensor) -> Tensor:
    """The scale that makes the blur (nearly) doubly stochastic from both sides, float [v]."""
    normaliser = torch.ones_like(counts)
    for _ in range(BISTOCHASTIC_ITERATIONS):
        blurred = CENTRE_WEIGHT * normaliser + grid.neighbour_sum(normaliser)
        normaliser = (normaliser * counts / blurred).sqrt()
    return normaliser


def _conjugate_gradient(
    grid: _Grid,
    scale: Tensor,
    diagonal: Tensor,
    right_side: Tensor,
    start: Tensor,
    max_iterations: int,
    tolerance: float,
) -> Tensor:
    """As `bilateral_solver._conjugate_gradient`, with one set of scalars an image: float [v]."""

    def multiply(vector: Tensor) -> Tensor:
        return diagonal * vector - scale * grid.neighbour_sum(scale * vector)

    solution, direction = start, torch.zeros_like(start)
    preconditioner = 1 / diagonal.clamp(min=SMALLEST_DIAGONAL)
    residual = right_side - multiply(solution)
    limit = tolerance * grid.inner(right_side, right_side).sqrt()
    previous = torch.full_like(limit, torch.inf)
    for _ in range(max_iterations):
        running = grid.inner(residual, residual).sqrt() > limit
        if not running.any():
            break
        preconditioned = preconditioner * residual
        inner = grid.inner(residual, preconditioned)
        # An image that is done takes steps of 0 from then on, and so stays done.
        ratio = torch.where(running, inner / previous, 0)
        direction = preconditioned + grid.spread(ratio) * direction
        product = multiply(direction)
        step = torch.where(running, inner / grid.inner(direction, product), 0)
        solution = solution + grid.spread(step) * direction
        residual = residual - grid.spread(step) * product
        previous = inner
    return solution


def _segment_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Sums of consecutive segments of `values` [n], of the given lengths [m]: [m].

    Unlike a scattered addition it adds in one order, on a GPU too.
    """
    return torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True)
