"""Objects pasted into other images."""

from __future__ import annotations

import numpy as np
import pytest

from zutis_model.regions.composites import pasted

GREEN, RED = (20, 200, 60), (220, 30, 30)


def picture(colour: tuple[int, int, int], height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def square(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[10:30, 20:40] = True
    return mask


def paste(seed: int, area: float = 600.0):
    ground = picture(GREEN, 80, 120)
    return pasted(ground, picture(RED, 50, 60), square(50, 60), area, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(8))
def test_the_object_lies_where_the_mask_says_and_nothing_else_changes(seed):
    found = paste(seed)
    assert found is not None
    distance = np.abs(found.pixels.astype(int) - GREEN).max(axis=-1)
    rows, columns = np.nonzero(found.mask)
    inner = found.pixels[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1]
    assert np.all(np.abs(inner.astype(int) - RED) < 8)
    near = np.zeros_like(found.mask)
    near[max(0, rows.min() - 2) : rows.max() + 3, max(0, columns.min() - 2) : columns.max() + 3] = 1
    assert distance[~near].max() == 0


def test_sizes_vary_about_the_wanted_area():
    areas = [found.mask.sum() for seed in range(40) if (found := paste(seed)) is not None]
    assert 0.3 < min(areas) / 600 < 0.7
    assert 1.2 < max(areas) / 600 < 2.1


def test_places_vary():
    corners = {
        tuple(np.argwhere(found.mask)[0])
        for seed in range(20)
        if (found := paste(seed)) is not None
    }
    assert len(corners) > 15


def test_what_does_not_fit_is_none():
    assert paste(0, area=80 * 120) is None
    assert paste(0, area=9) is None


def test_the_ground_is_left_as_it_is():
    ground = picture(GREEN, 80, 120)
    pasted(ground, picture(RED, 50, 60), square(50, 60), 600, np.random.default_rng(0))
    assert np.array_equal(ground, picture(GREEN, 80, 120))
