"""Boxes that reach beyond the image, and arrangements in which objects stay visible."""

from __future__ import annotations

import numpy as np

from made_world.drawing.rng import Rng
from made_world.scenes.placing import LEAST_PIXELS, LEAST_VISIBLE, Arrangement, place


def test_a_box_is_cut_at_the_edges_of_the_image():
    image, box = np.zeros((10, 12), dtype=int), np.arange(1, 31).reshape(5, 6)
    at = place(-2, 9, box.shape, (10, 12))
    image[at.in_image] = box[at.in_box]
    assert image[:3, 9:].tolist() == box[2:, :3].tolist()
    assert (image > 0).sum() == 9


def test_a_box_outside_covers_nothing():
    at = place(20, 3, (5, 6), (10, 12))
    assert np.zeros((10, 12))[at.in_image].size == 0
    assert np.zeros((5, 6))[at.in_box].size == 0


def test_boxes_touch_if_they_overlap():
    one = place(0, 0, (5, 5), (20, 20))
    assert one.touches(place(4, 4, (5, 5), (20, 20)))
    assert not one.touches(place(5, 0, (5, 5), (20, 20)))


def test_enough_of_every_object_stays_visible():
    overlaps = 0
    for number in range(40):
        rng, arrangement = Rng(6, number), Arrangement((80, 90), centred=False)
        for _ in range(5):
            arrangement.add(rng, np.ones((34, 30), dtype=bool), 0.5, 0.1)
        seen = np.array([mask.sum() for mask in arrangement.visible])
        assert (seen >= LEAST_VISIBLE * np.array(arrangement.whole)).all()
        assert (seen >= LEAST_PIXELS).all()
        assert np.sum(arrangement.visible, axis=0).max() == 1
        overlaps += bool((seen < 0.9 * 34 * 30).any())
    assert overlaps > 20


def test_nothing_is_put_where_there_is_no_room():
    arrangement = Arrangement((40, 40), centred=True)
    full = np.ones((40, 40), dtype=bool)
    assert arrangement.add(Rng(1), full, 0, 0) == (0, 0)
    assert arrangement.add(Rng(2), full, 0, 0) is None
    assert len(arrangement.visible) == 1
