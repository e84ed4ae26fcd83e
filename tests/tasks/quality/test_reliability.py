"""Figures of estimates against a truth that is known."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.quality.reliability import reliability


def planted(seed: int = 0, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    right = rng.random(n) < 0.8
    return np.where(right, 0.3 + 0.7 * rng.random(n), 0.0), right


def test_estimates_that_are_the_truth_are_perfect():
    iou, right = planted()
    found = reliability(iou, right * 1.0, iou, right)
    assert found.spearman == pytest.approx(1)
    assert (found.wrong_category_auc, found.poor_mask_auc) == (1, 1)
    assert found.calibration_error == pytest.approx(0, abs=1e-9)
    assert found.gain == pytest.approx(1)


def test_estimates_that_know_nothing_are_told_as_such():
    iou, right = planted()
    guess = np.random.default_rng(1).random(len(iou))
    found = reliability(guess, guess, iou, right)
    assert abs(found.spearman) < 0.1
    assert abs(found.wrong_category_auc - 0.5) < 0.08
    assert abs(found.gain) < 0.25


def test_a_constant_shift_is_the_calibration_error():
    iou, right = planted()
    found = reliability(np.clip(iou * 0.8 + 0.1, 0, 1), right * 1.0, iou * 0.8, right)
    assert found.calibration_error == pytest.approx(0.1, abs=1e-6)
    assert sum(number for _, _, number in found.bins) == len(iou)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_labels_have_the_figures_that_can_be_told(n):
    found = reliability(np.full(n, 0.5), np.full(n, 0.5), np.full(n, 0.4), np.ones(n, dtype=bool))
    assert found.labels == n
    assert (found.spearman, found.wrong_category_auc, found.gain) == (None, None, None)
