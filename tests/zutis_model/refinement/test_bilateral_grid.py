import hashlib
from fractions import Fraction

import numpy as np
import pytest

from zutis_model.refinement.bilateral_grid import ColourGrid, build_grid

COEFFICIENTS = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
OFFSETS = np.array([0.0, 128.0, 128.0])
SIGMAS = np.array([16.0, 8.0, 8.0])
# Separately rounded, 207 colours would get another luma. Some of them:
COLOURS_THAT_HANG_ON_THE_ROUNDING = 207
SOME_OF_THEM = np.array(
    [[173, 47, 6], [249, 137, 45], [37, 47, 82], [155, 145, 110], [100, 86, 137], [235, 115, 195]],
    dtype=np.uint8,
)


def numbers_of(bins, colour_grid):
    return (bins + 1) @ colour_grid.strides


def bins_by_exact_arithmetic(colour):
    """Bins of one colour: sums from red to blue, each rounded once."""
    bins = []
    for row, offset, sigma in zip(COEFFICIENTS, OFFSETS, SIGMAS, strict=True):
        total = 0.0
        for coefficient, channel in zip(row, colour, strict=True):
            total = float(Fraction(float(coefficient)) * int(channel) + Fraction(total))
        bins.append(int((total + offset) / sigma))
    return bins


def all_colours():
    return np.arange(2**24, dtype="<u4")[:, None].view(np.uint8)[:, :3]


def test_colours_are_rounded_as_the_reference_does():
    rng = np.random.default_rng(0)
    grey = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    colours = np.concatenate([SOME_OF_THEM, grey, rng.integers(0, 256, (999, 3), np.uint8)])
    colour_grid = ColourGrid(16.0, 8.0)
    expected = numbers_of(np.array([bins_by_exact_arithmetic(c) for c in colours]), colour_grid)
    np.testing.assert_array_equal(colour_grid.cells(colours), expected)


def test_every_colours_cell_is_unchanged():
    """A change of any of the 2^24, as by another processor or compiler, changes this sum."""
    cells = ColourGrid(16.0, 8.0).cells(all_colours()).astype("<u4")
    assert hashlib.sha256(cells.tobytes()).hexdigest().startswith("1eff05537da76627")


@pytest.mark.slow
def test_every_colours_cell_is_that_of_the_matrix_product():
    colour_grid = ColourGrid(16.0, 8.0)
    differing = 0
    for colours in np.array_split(all_colours(), 32):
        yuv = colours.astype(np.float64) @ COEFFICIENTS.T + OFFSETS
        expected = numbers_of((yuv / SIGMAS).astype(np.intp), colour_grid)
        differing += np.count_nonzero(colour_grid.cells(colours) != expected)
    # None where BLAS fuses multiplication and addition, as on any recent processor.
    assert differing in {0, COLOURS_THAT_HANG_ON_THE_ROUNDING}


@pytest.mark.parametrize(("spatial", "luma", "chroma"), [(16, 16, 8), (0.6, 40, 90), (7.3, 5, 11)])
def test_vertices_and_neighbours_are_those_of_the_definition(spatial, luma, chroma, make_image):
    image = make_image(3, 37, 45)
    colour_grid = ColourGrid(luma, chroma)
    grid = build_grid(image, spatial, colour_grid)

    y, x = np.indices(image.shape[:2])
    colour = colour_grid.cells(image).astype(np.intp)
    cells = np.stack([(y / spatial).astype(int), (x / spatial).astype(int), colour], axis=-1)
    vertex_of_cell = {}
    for cell, vertex in zip(cells.reshape(-1, 3), grid.vertex_of_pixel.ravel(), strict=True):
        assert vertex_of_cell.setdefault(tuple(cell), vertex) == vertex
    assert sorted(vertex_of_cell.values()) == list(range(len(grid.pixel_counts)))
    counts = np.bincount(grid.vertex_of_pixel.ravel())
    np.testing.assert_array_equal(grid.pixel_counts, counts)

    no_vertex = len(counts)
    for (row, column, colour), vertex in vertex_of_cell.items():
        around = [(row + d, column, colour) for d in (-1, 1)]
        around += [(row, column + d, colour) for d in (-1, 1)]
        around += [(row, column, colour + d * s) for s in colour_grid.strides for d in (-1, 1)]
        expected = sorted(vertex_of_cell.get(cell, no_vertex) for cell in around)
        assert sorted(grid.neighbours[vertex]) == expected


def test_splat_adds_and_slice_reads(make_image):
    grid = build_grid(make_image(4, 20, 33), 16.0, ColourGrid(16.0, 8.0))
    values = np.random.default_rng(0).random((20, 33))
    sums = grid.splat(values)
    expected = np.bincount(grid.vertex_of_pixel.ravel(), weights=values.ravel())
    np.testing.assert_allclose(sums, expected, rtol=1e-14)
    np.testing.assert_array_equal(grid.slice(sums), sums[grid.vertex_of_pixel])


def test_cells_far_below_a_pixel_are_all_apart(make_image):
    image = make_image(4, 12, 13)
    tiny, small = (build_grid(image, sigma, ColourGrid(16.0, 8.0)) for sigma in (1e-300, 0.5))
    assert len(tiny.pixel_counts) == 12 * 13
    np.testing.assert_array_equal(tiny.neighbours, small.neighbours)
    assert (tiny.neighbours == 12 * 13).all()


@pytest.mark.parametrize("sigmas", [(16.0, 1e-3), (1e-6, 8.0), (1.0, 5e-324)])
def test_too_many_colours_are_refused(sigmas):
    with pytest.raises(ValueError, match="colour cells"):
        ColourGrid(*sigmas)
