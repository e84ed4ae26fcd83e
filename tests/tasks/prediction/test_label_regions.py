"""Connected regions as instances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from tasks.prediction import label_regions
from tasks.prediction.label_regions import label_probabilities, regions_as_instances
from zutis_model.zutis import instance_prediction, semantic_prediction

LABELS = np.array(
    [
        [1, 1, 0, 2],
        [0, 0, 1, 2],
        [2, 0, 0, 0],
    ],
    dtype=np.int64,
)


def test_regions_touch_at_corners_and_keep_to_their_category():
    certainty = np.array([[0.9, 0.6, 0, 0.5], [0, 0, 0.6, 0.7], [0.8, 0, 0, 0]], dtype=np.float32)
    found = regions_as_instances(LABELS, certainty)
    assert found.category_ids.tolist() == [2, 1, 2]
    np.testing.assert_allclose(found.scores, [0.8, 0.7, 0.6], atol=1e-6)
    assert found.masks.sum(dim=(1, 2)).tolist() == [1, 3, 2]
    assert found.boxes.tolist() == [[0, 2, 0, 2], [0, 0, 2, 1], [3, 0, 3, 1]]


def test_only_the_best_are_kept():
    found = regions_as_instances(LABELS, np.arange(12, dtype=np.float32).reshape(3, 4) / 12, most=1)
    assert found.boxes.tolist() == [[0, 2, 0, 2]]


def test_background_alone_has_no_instances():
    found = regions_as_instances(np.zeros((3, 4), np.int64), np.ones((3, 4), np.float32))
    assert found.masks.shape == (0, 3, 4)
    assert found.boxes.shape == (0, 4)


def test_probabilities_are_those_of_a_softmax_over_all_categories(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.nn.functional.normalize(torch.randn(1, 3, 4, 8, generator=generator), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    logits = 10 * torch.einsum("bhwd,kd->bkhw", tokens, texts)
    upsampled = torch.nn.functional.interpolate(logits, size=(1500, 1100), mode="bilinear")
    expected = upsampled.softmax(dim=1).amax(dim=1)[0]
    # Large enough that not all categories are looked at together.
    found = label_probabilities(tokens, texts, (1500, 1100), scale=10)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [None, -3.0])
def test_probabilities_of_large_images_are_found_in_strips(bias, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.nn.functional.normalize(torch.randn(1, 3, 4, 8, generator=generator), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    monkeypatch.setattr(label_regions, "_LOGITS_AT_ONCE", 200 * 300)  # a category at a time
    expected = label_probabilities(tokens, texts, (200, 300), scale=10, bias=bias)
    monkeypatch.setattr(semantic_prediction, "_LOGITS_AT_ONCE", 200 * 70)
    found = label_probabilities(tokens, texts, (200, 300), scale=10, bias=bias)
    # PyTorch's exp and log differ in a last bit by a value's place in its array.
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pixels_at_once", [1, 700, 10**9])
def test_scores_are_the_means_of_scipy_to_the_last_bit(pixels_at_once, monkeypatch):
    monkeypatch.setattr(label_regions, "_PIXELS_AT_ONCE", pixels_at_once)
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (60, 70))
    certainty = random.random(labels.shape, dtype=np.float32)
    regions, categories = label_regions._regions(labels)
    numbers = np.arange(1, len(categories) + 1)
    expected = np.asarray(ndimage.mean(certainty, regions, numbers))
    assert np.array_equal(label_regions._means(certainty, regions, len(numbers)), expected)


def test_regions_of_large_images_are_kept_as_run_lengths(monkeypatch):
    certainty = np.linspace(0, 1, LABELS.size, dtype=np.float32).reshape(LABELS.shape)
    expected = regions_as_instances(LABELS, certainty)
    monkeypatch.setattr(instance_prediction, "MOST_PIXELS", 0)
    found = regions_as_instances(LABELS.astype(np.int16), certainty)
    assert torch.equal(found.masks, expected.masks)
    assert torch.equal(found.boxes, expected.boxes)
    assert found.run_lengths() == expected.run_lengths()
