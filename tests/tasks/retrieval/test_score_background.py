"""The test that tells categories that a corpus shows from absent ones."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.retrieval.score_background import exceeds_background


def cosines(images: int, shown: int, seed: int) -> np.ndarray:
    """Scores of a text: most images near 0.18, those that show the category near 0.28."""
    rng = np.random.default_rng(seed)
    background = rng.normal(0.18, 0.02, images - shown)
    return np.concatenate([background, rng.normal(0.28, 0.02, shown)]).astype(np.float32)


@pytest.mark.parametrize("images", [128, 2_000, 100_000])
def test_a_category_that_is_shown_stands_out_and_one_that_is_not_does_not(images):
    absent = [cosines(images, 0, seed) for seed in range(40)]
    alarms = sum(exceeds_background(float(scores.max()), scores, images) for scores in absent)
    assert alarms <= 3
    for shown in (5, images // 10, images // 2):
        scores = cosines(images, shown, seed=shown)
        assert exceeds_background(float(scores.max()), scores, images), shown


def test_a_sample_of_the_corpus_will_do():
    scores = cosines(100_000, 20, 0)
    sample = scores[:: len(scores) // 4_000]
    assert exceeds_background(float(scores.max()), sample, 100_000)
    background = cosines(100_000, 0, 0)
    assert not exceeds_background(float(background.max()), background[::25], 100_000)


def test_few_images_are_not_tested():
    assert exceeds_background(0.0, np.zeros(19, dtype=np.float32), 19)
