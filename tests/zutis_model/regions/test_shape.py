"""Shapes of masks, against shapes whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest

from zutis_model.regions.shape import mask_shape


def disc(size: int = 101, radius: float = 40.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.hypot(x, y) <= radius


def test_a_rectangle():
    mask = np.zeros((50, 100), dtype=bool)
    mask[10:20, 10:50] = True
    shape = mask_shape(mask)
    assert shape.area == pytest.approx(400 / 5000)
    assert shape.solidity == pytest.approx(1)
    assert shape.extent == 1
    assert shape.elongation == 4
    assert (shape.components, shape.largest_piece, shape.holes) == (1, 1, 0)
    assert shape.border_contact == 0


def test_a_disc_is_solid_and_fills_its_box_by_pi_quarters():
    shape = mask_shape(disc())
    assert shape.solidity > 0.97
    assert shape.extent == pytest.approx(np.pi / 4, abs=0.02)


def test_a_ring_has_a_hole():
    shape = mask_shape(disc() & ~disc(radius=20))
    assert shape.holes == pytest.approx(20**2 / (40**2 - 20**2), abs=0.02)
    assert shape.solidity == pytest.approx(0.75, abs=0.02)


def test_pieces_are_counted_and_the_largest_weighed():
    mask = np.zeros((30, 30), dtype=bool)
    mask[:10, :30] = True
    mask[20:30, :10] = True
    shape = mask_shape(mask)
    assert (shape.components, shape.largest_piece) == (2, 0.75)
    assert shape.border_contact == pytest.approx((30 + 9 + 9 + 10 + 9) / 116)


@pytest.mark.parametrize("pixels", [np.s_[3, 4], np.s_[3, :], np.s_[:, 3]])
def test_single_pixels_and_lines_are_solid(pixels):
    mask = np.zeros((9, 9), dtype=bool)
    mask[pixels] = True
    assert mask_shape(mask).solidity == pytest.approx(1)


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="no pixel"):
        mask_shape(np.zeros((9, 9), dtype=bool))
