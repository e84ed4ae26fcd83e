"""Names of candidates and the choice among those that overlap: pure functions."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.categories.logits import Logits
from tasks.naming.candidates import chosen, name_probabilities
from tasks.quality.region_measuring import VECTORS

TEXTS = np.eye(3, dtype=np.float32)
LOGITS = Logits(10.0)
NOWHERE = np.zeros(3, dtype=np.bool_)


def candidate(**views: tuple[float, float, float]) -> np.ndarray:
    """A region's vectors, float32 [6, 3]."""
    return np.array([views.get(name, (0, 0, 0)) for name in VECTORS], dtype=np.float32)


def rectangle(columns: slice) -> np.ndarray:
    mask = np.zeros((10, 40), dtype=np.bool_)
    mask[2:8, columns] = True
    return mask


def test_the_wide_view_and_the_pixels_name_an_object():
    first, second = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    likely = name_probabilities(
        np.stack([
            candidate(wide=first, inside=first, tight=second),
            candidate(wide=second, inside=first),
            candidate(wide=(0.0, 0.3, 0.3), inside=(0.0, 0.3, 0.3)),
        ]),
        TEXTS, LOGITS, NOWHERE,
    )  # fmt: skip
    assert likely.argmax(axis=1).tolist()[:2] == [0, 1]
    assert likely.sum(axis=1) == pytest.approx(1.0)
    assert likely[0, 0] > 0.99
    assert likely[2].max() < 0.5


def test_a_category_that_the_image_was_retrieved_for_is_likelier_but_not_certain():
    unclear = candidate(wide=(0.30, 0.31, 0.0), inside=(0.30, 0.31, 0.0))
    clear = candidate(wide=(0.0, 1.0, 0.0), inside=(0.0, 1.0, 0.0))
    expected = np.array([True, False, False])
    likely = name_probabilities(np.stack([unclear, clear]), TEXTS, LOGITS, expected)
    assert likely.argmax(axis=1).tolist() == [0, 1]


def test_a_whole_with_the_clearer_name_excludes_its_parts():
    whole, left, right = (rectangle(slice(*at)) for at in ((0, 40), (0, 18), (18, 40)))
    assert chosen([whole, left, right], np.array([0.9, 0.8, 0.8])) == [0]


def test_a_part_with_the_clearer_name_excludes_the_whole_and_not_the_other_part():
    whole, left, right = (rectangle(slice(*at)) for at in ((0, 40), (0, 18), (18, 40)))
    assert chosen([whole, left, right], np.array([0.8, 0.7, 0.9])) == [2, 1]


def test_objects_apart_and_those_that_overlap_little_stay():
    masks = [rectangle(slice(0, 12)), rectangle(slice(20, 40)), rectangle(slice(10, 25))]
    assert chosen(masks, np.array([0.5, 0.4, 0.3])) == [0, 1, 2]
    assert chosen([], np.zeros(0)) == []
