"""Two senses of a name, and categories that want the same images."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.retrieval.ambiguity import second_sense, shared_images

CORPUS = np.full(16, 0.2)


def around(rng: np.random.Generator, direction: np.ndarray, count: int) -> np.ndarray:
    """Embeddings of one kind of image, of unit length."""
    rows = CORPUS + direction + rng.normal(0, 0.15, (count, 16))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_images_of_two_kinds_are_two_senses(share: float) -> None:
    rng = np.random.default_rng(0)
    number = round(60 * share)
    first, second = np.eye(16)[:2]
    images = np.concatenate([around(rng, first, number), around(rng, second, 60 - number)])
    order = np.concatenate([[0], 1 + rng.permutation(59)])
    found = second_sense(images[order], CORPUS)
    assert found is not None
    assert (found == (order >= number)).all()


def test_images_of_one_kind_are_one_sense() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert second_sense(around(rng, np.eye(16)[0], 60), CORPUS) is None


def test_a_few_strays_and_few_images_are_no_sense() -> None:
    rng = np.random.default_rng(0)
    strays = np.concatenate([around(rng, np.eye(16)[0], 58), around(rng, np.eye(16)[1], 2)])
    assert second_sense(strays, CORPUS) is None
    assert second_sense(around(rng, np.eye(16)[0], 11), CORPUS) is None
    assert second_sense(np.ones((20, 16)), CORPUS) is None


def test_shared_images_are_a_share_of_each_categorys_own() -> None:
    shared = shared_images([np.array([7, 1, 5, 3]), np.array([5, 7]), np.array([9])])
    assert shared.tolist() == [[1, 0.5, 0], [1, 1, 0], [0, 0, 1]]
