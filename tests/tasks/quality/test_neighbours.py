"""Agreement of labels with those of similar images."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.quality import neighbours
from tasks.quality.neighbours import neighbour_agreement


def test_labels_agree_with_those_of_similar_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "NEIGHBOURS", 3)
    near_x, near_y = [[1, 0.01 * n] for n in range(4)], [[0.01 * n, 2] for n in range(4)]
    images = np.array([*near_x, *near_y], dtype=np.float32)
    image_of = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7])
    category_of = np.array([1, 1, 1, 2, 2, 2, 2, 2, 1])
    agreement = neighbour_agreement(images, image_of, category_of)
    np.testing.assert_allclose(agreement, [2 / 3, 2 / 3, 2 / 3, 0, 1, 1, 1, 1, 0], rtol=1e-6)


def test_a_single_image_has_no_neighbour() -> None:
    agreement = neighbour_agreement(np.ones((1, 2), np.float32), np.array([0]), np.array([1]))
    assert np.isnan(agreement).all()


def test_of_many_images_some_are_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_MOST_COMPARED", 5)
    images = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    same = np.ones(50, dtype=np.int64)
    assert (neighbour_agreement(images, np.arange(50), same) == 1).all()
