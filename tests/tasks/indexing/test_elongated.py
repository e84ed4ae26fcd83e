"""Crops along elongated images."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.indexing.elongated import crop_boxes, is_elongated


def test_elongated_is_beyond_three_to_two() -> None:
    height = np.array([100, 100, 100, 300, 100])
    width = np.array([100, 150, 160, 100, 151])
    assert is_elongated(height, width).tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("short", [16, 100, 101])
@pytest.mark.parametrize("ratio", [1.51, 1.6, 2.0, 2.2, 2.5, 3.0, 4.7, 16.0])
def test_squares_reach_from_end_to_end_half_a_square_apart(short: int, ratio: float) -> None:
    long = round(short * ratio)
    boxes = crop_boxes(short, long)
    assert all((top, side) == (0, short) for _, top, side in boxes)
    starts = [left for left, _, _ in boxes]
    seen = sorted([*starts, (long - short) // 2])
    assert (starts[0], starts[-1]) == (0, long - short)
    assert max(np.diff(seen)) <= short / 2 + 1
    assert len(set(starts)) == len(starts)
    assert crop_boxes(long, short) == [(0, left, side) for left, _, side in boxes]


def test_the_centre_crop_is_included_on_request() -> None:
    assert crop_boxes(100, 200) == [(0, 0, 100), (100, 0, 100)]
    assert crop_boxes(100, 200, central=True) == [(0, 0, 100), (50, 0, 100), (100, 0, 100)]
    assert len(crop_boxes(100, 220, central=True)) == len(crop_boxes(100, 220)) + 1


def test_endless_images_have_no_endless_squares() -> None:
    assert len(crop_boxes(16, 16_000)) == 32
