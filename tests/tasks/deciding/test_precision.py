"""Estimates of precision: Wilson's interval, against its definition and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tasks.deciding.precision import precision_by_category, precision_of


@pytest.mark.parametrize(("right", "of"), [(0, 1), (1, 1), (6, 7), (113, 120), (50, 50), (0, 50)])
def test_the_interval_is_that_of_scipy(right: int, of: int) -> None:
    expected = stats.binomtest(right, of).proportion_ci(0.95, method="wilson")
    found = precision_of(right, of)
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)
    assert 0 <= found.low <= found.share <= found.high <= 1


@pytest.mark.parametrize("true", [0.5, 0.9, 0.97])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(true: float) -> None:
    draws = np.random.default_rng(0).binomial(50, true, 2_000)
    intervals = [precision_of(right, 50) for right in draws.tolist()]
    held = np.mean([each.low <= true <= each.high for each in intervals])
    assert 0.92 < held < 0.99


def test_categories_are_estimated_each_for_itself() -> None:
    rows = precision_by_category([(3, True), (1, False), (3, True), (3, False)])
    assert [(row["category_id"], row["right"], row["looked_at"]) for row in rows] == [
        (1, 0, 1),
        (3, 2, 3),
    ]
    assert rows[1]["share"] == 0.6667
