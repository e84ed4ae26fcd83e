"""Damaged masks: changed, measured, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from zutis_model.regions.damage import WAYS, damaged


def square() -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:44, 30:54] = True
    return mask


def bar() -> np.ndarray:
    mask = np.zeros((40, 40), dtype=bool)
    mask[5:35, 10:16] = True
    return mask


@pytest.mark.parametrize("way", WAYS)
def test_every_way_changes_the_mask_and_tells_the_iou_that_is_left(way):
    for seed in range(20):
        found = damaged(square(), np.random.default_rng(seed), way, bar())
        if found is None:
            continue
        assert found.way == way
        assert found.mask.shape == square().shape
        both, either = found.mask & square(), found.mask | square()
        assert found.iou == pytest.approx(both.sum() / either.sum())
        assert found.iou < 1


@pytest.mark.parametrize("way", WAYS)
def test_what_is_left_varies_over_the_seeds(way):
    found = [damaged(square(), np.random.default_rng(seed), way, bar()) for seed in range(60)]
    ious = [one.iou for one in found if one is not None]
    assert len(ious) > 40
    assert np.ptp(ious) > 0.15


def test_ways_do_what_they_are_called():
    rng = np.random.default_rng(1)
    grown = damaged(square(), rng, "dilate")
    assert grown is not None
    assert not (square() & ~grown.mask).any()
    for way in ("erode", "cut"):
        smaller = damaged(square(), rng, way)
        assert smaller is not None
        assert not (smaller.mask & ~square()).any()
    merged = damaged(square(), rng, "merge", bar())
    assert merged is not None
    assert not (square() & ~merged.mask).any()
    moved = damaged(square(), rng, "shift")
    assert moved is not None
    assert moved.mask.sum() <= square().sum()


def test_the_same_numbers_give_the_same_damage():
    first, second = (damaged(square(), np.random.default_rng(5), "shift") for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.mask, second.mask)


def test_a_mask_that_would_be_gone_is_none():
    tiny = np.zeros((20, 20), dtype=bool)
    tiny[3:5, 3:5] = True
    assert damaged(tiny, np.random.default_rng(0), "erode") is None


def test_wrong_ways_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no way 'melt'"):
        damaged(square(), rng, "melt")
    with pytest.raises(ValueError, match="another one is needed"):
        damaged(square(), rng, "merge")
