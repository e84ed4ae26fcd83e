"""Signals of labels: cosines, leads and contrasts that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.categories.logits import Logits
from tasks.quality.label_signals import TEXT_SIGNALS, plain_confidence, text_signals
from tasks.quality.region_measuring import VECTORS

TEXTS = np.eye(3, dtype=np.float32)


def vectors(**given: list[float]) -> np.ndarray:
    """One region [1, 6, 3] whose vectors are zero but for those given."""
    return np.array([[given.get(name, [0, 0, 0]) for name in VECTORS]], dtype=np.float32)


def test_scores_leads_and_contrasts():
    region = vectors(tight=[0.8, 0.6, 0], inside=[0.5, 0.1, 0], ring=[0.2, 0, 0], rest=[0.1, 0, 0])
    found = text_signals(region, TEXTS, np.array([0]), Logits(10.0))
    assert found.keys() == set(TEXT_SIGNALS)
    assert found["tight_score"] == pytest.approx(0.8)
    assert found["tight_lead"] == pytest.approx(0.2)
    assert found["tight_probability"] == pytest.approx(
        np.exp(8) / (np.exp(8) + np.exp(6) + 1), rel=1e-5
    )
    assert found["inside_score"] == pytest.approx(0.5)
    assert found["ring_contrast"] == pytest.approx(0.3)
    assert found["rest_contrast"] == pytest.approx(0.4)
    assert found["wide_lead"] == 0


def test_a_rival_that_is_hidden_is_not_compared_with():
    region = vectors(tight=[0.1, 0.9, 0])
    hidden = np.array([[False, True, False]])
    seen = text_signals(region, TEXTS, np.array([0]), Logits(100.0))
    blind = text_signals(region, TEXTS, np.array([0]), Logits(100.0), hidden)
    assert seen["tight_probability"] < 0.01
    assert blind["tight_probability"] > 0.99
    assert blind["tight_score"] == seen["tight_score"]
    assert blind["tight_lead"] == pytest.approx(0.1)


def test_a_sigmoid_asks_no_other_category():
    region = vectors(tight=[0.5, 0.9, 0])
    found = text_signals(region, TEXTS, np.array([0]), Logits(10.0, bias=-5.0))
    assert found["tight_probability"] == pytest.approx(0.5)


def test_each_label_is_compared_with_its_own_category():
    region = np.repeat(vectors(whole=[0.2, 0.5, 0.3]), 3, axis=0)
    found = text_signals(region, TEXTS, np.arange(3), Logits(1.0))
    assert found["whole_score"] == pytest.approx([0.2, 0.5, 0.3])
    assert found["whole_probability"].sum() == pytest.approx(1)


def test_the_plain_confidence_rises_with_each_of_its_signals():
    low = {
        "tight_probability": np.array([0.4]),
        "wide_probability": np.array([0.4]),
        "stability": np.array([0.4]),
        "largest_piece": np.array([0.6]),
        "solidity": np.array([0.6]),
    }
    for name in low:
        high = low | {name: np.array([0.9])}
        assert plain_confidence(high) > plain_confidence(low)
    assert plain_confidence({name: np.ones(1) for name in low}) == 1
