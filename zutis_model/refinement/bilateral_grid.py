"""The bilateral grid (Chen et al. 2007): pixels close in place and colour share one vertex.

The grid is sparse and has five dimensions (x, y, luma, two chromas). Its geometry, the rounding of
its colours included, is that of the ZUTIS reference (`utils/bilateral_solver.py`). The reference
sorts hashed coordinates and searches them for neighbours; here all pixels of one square of the
image are numbered through one small table of colours, and neighbours are read off such tables.

Dimensions:
    h, w  image rows, columns
    n     colours, or pixels
    v     vertices: cells of the grid that hold a pixel
    s     squares of the image: cells of its x and y, row-major
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from zutis_model.layers.compilation import compiled

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.uint32]

NUM_DIMENSIONS = 5
NUM_NEIGHBOURS = 2 * NUM_DIMENSIONS

_MOST_COLOUR_CELLS = 2**26  # whose table takes 256 MB
_UNNUMBERED = np.uint32(2**32 - 1)
_BLOCK = 512  # colours converted at a time


@dataclass(frozen=True)
class ColourGrid:
    """How the three dimensions of colour are binned, and their cells numbered.

    The numbering is padded by one empty bin at each end of each dimension, so that every cell
    that a colour can have also has neighbours: they are one of the `strides` away, up or down.

    Args:
        sigma_luma: side of a cell, grey levels; above 0.
        sigma_chroma: side of a cell, chroma levels; above 0.

    Raises:
        ValueError: the cells are more than a table can hold.
    """

    sigma_luma: float
    sigma_chroma: float

    def __post_init__(self) -> None:
        if not _padded_bins(self.sigma_luma) * _padded_bins(self.sigma_chroma) ** 2 <= (
            _MOST_COLOUR_CELLS
        ):
            raise ValueError(
                f"sigma_luma {self.sigma_luma} and sigma_chroma {self.sigma_chroma} make more than "
                f"{_MOST_COLOUR_CELLS} colour cells"
            )

    @property
    def num_cells(self) -> int:
        """The number of cells, the empty ones at the ends included."""
        return int(_padded_bins(self.sigma_luma)) * self.strides[0]

    @property
    def strides(self) -> tuple[int, int, int]:
        """Between the numbers of cells that are neighbours in luma, first and second chroma."""
        chromas = int(_padded_bins(self.sigma_chroma))
        return chromas * chromas, chromas, 1

    def cells(self, colours: npt.NDArray[np.uint8]) -> IndexArray:
        """The cells of colours uint8 [..., 3], RGB: uint32 [...]."""
        cells = np.empty(colours.shape[:-1], dtype=np.uint32)
        _fill_colour_cells(
            read_only(colours).reshape(-1, 3),
            float(self.sigma_luma),
            float(self.sigma_chroma),
            np.array(self.strides, dtype=np.int32),
            cells.reshape(-1),
        )
        return cells


@dataclass(frozen=True)
class BilateralGrid:
    """The vertices that an image occupies.

    Attributes:
        vertex_of_pixel: uint32 [h, w].
        pixel_counts: float64 [v].
        neighbours: uint32 [v, 10], vertices one cell away: two in each dimension; v where there
            is none.
    """

    vertex_of_pixel: IndexArray
    pixel_counts: FloatArray
    neighbours: IndexArray

    def splat(self, values: npt.NDArray[Any]) -> FloatArray:
        """Sums over the pixels of each vertex: real numbers [h, w] to float64 [v]."""
        sums = np.zeros(len(self.pixel_counts))
        # Masks come in one byte a pixel. Converting them would cost more than adding them up.
        dtype = np.uint8 if values.dtype in (np.bool_, np.uint8) else np.float64
        _add_at(self.vertex_of_pixel, read_only(values.astype(dtype, copy=False)), sums)
        return sums

    def slice(self, values: FloatArray) -> FloatArray:
        """Each pixel's vertex's value: float64 [v] to float64 [h, w]."""
        return _take(read_only(values), self.vertex_of_pixel)


def build_grid(
    image: npt.NDArray[np.uint8], sigma_spatial: float, colour_grid: ColourGrid
) -> BilateralGrid:
    """Number the cells that an image occupies, and link neighbours.

    Memory is linear in pixels and vertices. Vertices are numbered square by square.

    Args:
        image: uint8 [h, w, 3], RGB, at least one pixel.
        sigma_spatial: side of a square, pixels.
        colour_grid: the dimensions of colour.
    """
    height, width = image.shape[:2]
    rows, row_adjoins = _intervals(height, sigma_spatial)
    columns, column_adjoins = _intervals(width, sigma_spatial)
    num_cells = colour_grid.num_cells

    vertex_of_pixel = colour_grid.cells(image)  # colour cells; vertices take their place
    colours, counts, firsts = _number_vertices(vertex_of_pixel, rows, columns, num_cells)
    neighbours = _link_neighbours(
        colours,
        firsts,
        row_adjoins,
        column_adjoins,
        np.array(colour_grid.strides, dtype=np.int64),
        num_cells,
    )
    return BilateralGrid(vertex_of_pixel, counts, neighbours)


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array in C order, seen through a view that can't be written.

    To Numba, writable and unwritable arrays are of different types, for each of which it would
    compile anew; Pillow's arrays are unwritable.
    """
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def spatial_bins(length: int, sigma: float) -> npt.NDArray[np.intp]:
    """The bin of each row or column, truncated: int [length]."""
    # Where two pixels have an empty bin between them, smaller cells change nothing but overflow.
    return (np.arange(length) / max(sigma, 0.5)).astype(np.intp)


def _padded_bins(sigma: float) -> float:
    # All of luma and chroma lie in 0..256. One bin for what the division leaves, two for the ends.
    return 256 // sigma + 3


def _intervals(length: int, sigma: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The rows or columns that share a bin.

    Returns:
        bounds: int [m + 1], where intervals start and the last one ends.
        adjoins: bool [m], whether an interval's bin is the one after the bin before. It isn't for
            the first one, nor where cells are smaller than pixels and some bins stay empty.
    """
    steps = np.diff(spatial_bins(length, sigma))
    starts = np.flatnonzero(steps)
    bounds = np.concatenate([[0], starts + 1, [length]])
    return bounds, np.concatenate([[False], steps[starts] == 1])


def _type_fused_multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any]:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


# a · b + c, float64, rounded once; in software where a processor can't.
_fused_multiply_add = cast(
    "Callable[[float, float, float], float]", intrinsic(_type_fused_multiply_add)
)


# Full-range BT.601 (JPEG), with the reference's digits. A grey pixel lies exactly on a bin's edge,
# so rounding decides its bin. The reference computes a matrix product; on processors with fused
# multiply-add BLAS adds from red to blue and rounds each sum once. Written out, it is the same for
# all 2^24 colours, on any processor. With separate roundings, 207 colours would change bins.
@compiled
def _fill_colour_cells(
    colours: npt.NDArray[np.uint8],
    sigma_luma: float,
    sigma_chroma: float,
    strides: npt.NDArray[np.int32],
    cells: IndexArray,
) -> None:
    """Write the numbers of the cells of colours [n, 3] into `cells` [n]."""
    one = np.int32(1)
    # Channels are taken apart first, so that the rest is done for several colours at once.
    red, green, blue = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, len(cells), _BLOCK):
        size = min(_BLOCK, len(cells) - start)
        for i in range(size):
            red[i], green[i], blue[i] = colours[start + i]
        for i in range(size):
            r, g, b = red[i], green[i], blue[i]
            luma = _fused_multiply_add(b, 0.114, _fused_multiply_add(g, 0.587, r * 0.299))
            u = _fused_multiply_add(b, 0.5, _fused_multiply_add(g, -0.331264, r * -0.168736))
            v = _fused_multiply_add(b, -0.081312, _fused_multiply_add(g, -0.418688, r * 0.5))
            cells[start + i] = (
                (np.int32(luma / sigma_luma) + one) * strides[0]
                + (np.int32((u + 128.0) / sigma_chroma) + one) * strides[1]
                + (np.int32((v + 128.0) / sigma_chroma) + one) * strides[2]
            )


@compiled
def _number_vertices(
    cells: IndexArray,
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    num_cells: int,
) -> tuple[IndexArray, FloatArray, npt.NDArray[np.int64]]:
    """Number the cells that occur in each square, in the order in which they do.

    Args:
        cells: [h, w], colour cells; replaced by the pixels' vertices.
        rows, columns: bounds of the squares.

    Returns:
        colours: uint32 [v], the vertices' colour cells.
        counts: float64 [v], their pixels.
        firsts: int64 [s + 1], where the vertices of each square start, and the last ones end.
    """
    # As many as there could be: pages that are never written take no memory.
    colours, counts = np.empty(cells.size, np.uint32), np.empty(cells.size)
    firsts = np.zeros((len(rows) - 1) * (len(columns) - 1) + 1, np.int64)
    vertex_of_colour = np.full(num_cells, _UNNUMBERED)
    num_vertices = 0
    square = 0
    for i in range(len(rows) - 1):
        for j in range(len(columns) - 1):
            for y in range(rows[i], rows[i + 1]):
                for x in range(columns[j], columns[j + 1]):
                    colour = cells[y, x]
                    vertex = vertex_of_colour[colour]
                    if vertex == _UNNUMBERED:
                        vertex = np.uint32(num_vertices)
                        vertex_of_colour[colour] = vertex
                        colours[vertex], counts[vertex] = colour, 0.0
                        num_vertices += 1
                    counts[vertex] += 1.0
                    cells[y, x] = vertex
            for colour in colours[firsts[square] : num_vertices]:
                vertex_of_colour[colour] = _UNNUMBERED
            square += 1
            firsts[square] = num_vertices
    return colours[:num_vertices].copy(), counts[:num_vertices].copy(), firsts


@compiled
def _link_neighbours(
    colours: IndexArray,
    firsts: npt.NDArray[np.int64],
    row_adjoins: npt.NDArray[np.bool_],
    column_adjoins: npt.NDArray[np.bool_],
    strides: npt.NDArray[np.int64],
    num_cells: int,
) -> IndexArray:
    """Every vertex's neighbours, uint32 [v, 10]; arguments as `_number_vertices` returns them."""
    no_vertex = np.uint32(len(colours))
    neighbours = np.full((len(colours), NUM_NEIGHBOURS), no_vertex)
    vertex_of_colour = np.full(num_cells, no_vertex)
    squares_in_row = len(column_adjoins)
    for square in range(len(firsts) - 1):
        row, column = divmod(square, squares_in_row)
        start, end = firsts[square], firsts[square + 1]
        for vertex in range(start, end):
            vertex_of_colour[colours[vertex]] = vertex
        for vertex in range(start, end):
            for i in range(3):
                neighbours[vertex, 2 * i] = vertex_of_colour[colours[vertex] - strides[i]]
                neighbours[vertex, 2 * i + 1] = vertex_of_colour[colours[vertex] + strides[i]]
        if column_adjoins[column]:
            _link_squares(square - 1, 6, colours, firsts, vertex_of_colour, neighbours)
        if row_adjoins[row]:
            above = square - squares_in_row
            _link_squares(above, 8, colours, firsts, vertex_of_colour, neighbours)
        for vertex in range(start, end):
            vertex_of_colour[colours[vertex]] = no_vertex
    return neighbours


@compiled
def _link_squares(
    before: int,
    slot: int,
    colours: IndexArray,
    firsts: npt.NDArray[np.int64],
    vertex_of_colour: IndexArray,
    neighbours: IndexArray,
) -> None:
    """Link the vertices of the square `before` to those in the table, and back."""
    for vertex in range(firsts[before], firsts[before + 1]):
        other = vertex_of_colour[colours[vertex]]
        if other < len(colours):
            neighbours[vertex, slot] = other
            neighbours[other, slot + 1] = vertex


@compiled
def _add_at(vertex_of_pixel: IndexArray, values: npt.NDArray[Any], sums: FloatArray) -> None:
    height, width = vertex_of_pixel.shape
    for y in range(height):
        for x in range(width):
            sums[vertex_of_pixel[y, x]] += values[y, x]


@compiled
def _take(values: FloatArray, vertex_of_pixel: IndexArray) -> FloatArray:
    height, width = vertex_of_pixel.shape
    taken = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            taken[y, x] = values[vertex_of_pixel[y, x]]
    return taken
