"""The estimator learns what signals say, is calibrated, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.quality.estimator import FEATURES, Estimator, Examples, feature_matrix


def examples(seed: int, n: int = 600, offset: float = 0.0) -> Examples:
    """Labels whose category shows in the leads and whose IoU shows in the contrast."""
    rng = np.random.default_rng(seed)
    right, quality = rng.random(n) < 0.7, rng.random(n)
    signals = {name: rng.random(n) for name in FEATURES}
    for name in ("inside_probability", "tight_score", "wide_score"):
        signals[name] = np.where(right, 0.1, -0.1) + 0.08 * rng.normal(size=n) + offset
    signals["rest_contrast"] = quality * 0.3 + 0.03 * rng.normal(size=n)
    iou = np.where(right, quality, 0.0)
    return Examples(feature_matrix(signals), right, iou, np.ones(n), np.arange(n) // 3)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(examples(0), seed=0)


def test_it_finds_wrong_categories_and_poor_masks_among_labels_it_has_not_seen(estimator):
    new = examples(1)
    found = estimator(new.features)
    assert found.category_probability[new.right].mean() > 0.9
    assert found.category_probability[~new.right].mean() < 0.2
    assert np.corrcoef(found.quality, new.iou)[0, 1] > 0.85


def test_its_estimates_are_calibrated_on_images_that_it_had_not_learned_from(estimator):
    truth = examples(0)
    held_out = estimator.held_out
    assert held_out.quality.mean() == pytest.approx(truth.iou.mean(), abs=0.03)
    confident = held_out.category_probability > 0.9
    assert truth.right[confident].mean() > 0.9


def test_estimates_are_shares(estimator):
    found = estimator(1e3 * examples(2).features)
    for values in (found.category_probability, found.estimated_iou, found.quality):
        assert values.dtype == np.float32
        assert 0 <= values.min() <= values.max() <= 1


def test_signals_that_speak_for_a_label_never_lower_it(estimator):
    features = examples(3).features
    better = features.copy()
    better[:, list(FEATURES).index("tight_score")] += 0.2
    assert np.all(estimator(better).quality >= estimator(features).quality - 1e-6)


def test_the_same_examples_give_the_same_estimates(estimator):
    again = Estimator(examples(0), seed=0)
    features = examples(4).features
    assert np.array_equal(again(features).quality, estimator(features).quality)
    assert np.array_equal(again.held_out.quality, estimator.held_out.quality)


def test_examples_count_by_their_weight():
    """Of two kinds of examples that contradict each other, the heavier one is believed."""
    truth = examples(0)
    upside_down = Examples(
        features=np.concatenate([truth.features, truth.features]),
        right=np.concatenate([truth.right, ~truth.right]),
        iou=np.concatenate([truth.iou, np.where(truth.right, 0.0, 0.5)]),
        weight=np.repeat([9.0, 1.0], len(truth.right)),
        groups=np.concatenate([truth.groups, truth.groups]),
    )
    found = Estimator(upside_down, seed=0)(truth.features)
    assert found.category_probability[truth.right].mean() > 0.75
    assert found.category_probability[~truth.right].mean() < 0.3
