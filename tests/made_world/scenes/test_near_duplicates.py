"""Near-duplicates: each way changes what it says, and the masks go along."""

from __future__ import annotations

import numpy as np
import pytest

from made_world.drawing.rng import Rng
from made_world.scenes.hard import hard_image
from made_world.scenes.near_duplicates import near_duplicate

IMAGE = hard_image(5, 1)


def test_there_is_something_to_see():
    assert len(IMAGE.objects) > 2


def test_a_crop_keeps_four_fifths_of_each_side_or_more():
    for number in range(20):
        copy = near_duplicate(Rng(1, number), IMAGE, "crop").image
        for kept, whole in zip(copy.pixels.shape[:2], IMAGE.pixels.shape[:2], strict=True):
            assert 0.79 * whole <= kept <= 0.96 * whole
        seen = sum(int(one.mask.sum()) for one in copy.objects)
        assert seen <= sum(int(one.mask.sum()) for one in IMAGE.objects)
        for one in copy.objects:
            (was,) = [each for each in IMAGE.objects if each.texture == one.texture
                      and each.kind == one.kind and each.colour == one.colour]  # fmt: skip
            assert one.visible == pytest.approx(was.visible * one.mask.sum() / was.mask.sum())


def test_compression_changes_the_quality_alone():
    copy = near_duplicate(Rng(1), IMAGE, "jpeg")
    assert copy.quality == 30
    assert copy.image is IMAGE


def test_brightness_changes_by_a_tenth_to_three_tenths():
    gains = []
    for number in range(30):
        copy = near_duplicate(Rng(1, number), IMAGE, "brightness").image
        middle = (IMAGE.pixels > 60) & (IMAGE.pixels < 180)
        gains.append(np.median(copy.pixels[middle] / IMAGE.pixels[middle]))
        assert copy.objects == IMAGE.objects
    assert 0.68 < min(gains) < 0.8
    assert 1.2 < max(gains) < 1.32
    assert all(abs(gain - 1) > 0.09 for gain in gains)


def test_a_flip_exchanges_left_and_right():
    copy = near_duplicate(Rng(1), IMAGE, "flip").image
    assert (copy.pixels[:, ::-1] == IMAGE.pixels).all()
    for one, was in zip(copy.objects, IMAGE.objects, strict=True):
        assert (one.mask[:, ::-1] == was.mask).all()


def test_a_resize_keeps_the_shares_of_the_masks():
    for number in range(10):
        copy = near_duplicate(Rng(1, number), IMAGE, "resize").image
        share = copy.pixels.shape[0] / IMAGE.pixels.shape[0]
        assert 0.49 <= share <= 0.91
        for one, was in zip(copy.objects, IMAGE.objects, strict=True):
            assert one.mask.shape == copy.pixels.shape[:2]
            assert one.mask.mean() == pytest.approx(was.mask.mean(), rel=0.35)
