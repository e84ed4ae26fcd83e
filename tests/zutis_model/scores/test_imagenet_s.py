"""ImageNet-S's scores against its rules, taken pixel by pixel from whole label maps."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from zutis_model.scores.imagenet_s import ImageNetSScores, ImageNetSTally

K = 5


def matrix_of(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    matrix = np.zeros((K + 1, K + 1), dtype=np.int64)
    np.add.at(matrix, (labels.ravel(), predictions.ravel()), 1)
    return matrix


def scores_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> ImageNetSScores:
    tally = ImageNetSTally(K)
    for labels, predictions in pairs:
        tally.add(matrix_of(labels, predictions))
    return tally.scores()


def random_pairs(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label maps with objects of all sizes; the last category occurs nowhere."""
    rng = np.random.default_rng(seed)
    pairs = []
    for side in (3, 8, 13, 17, 19, 5):
        labels = np.zeros((20, 20), dtype=np.int64)
        labels[:side, :side] = rng.integers(1, K)
        labels[18:, 17:] = rng.integers(1, K)
        noise = rng.random(labels.shape) < 0.3
        pairs.append((labels, np.where(noise, rng.integers(0, K, labels.shape), labels)))
    return pairs


def iou_of_pixels(pixels: list[tuple[np.ndarray, np.ndarray]], label: int) -> float:
    labels = np.concatenate([pair[0].ravel() for pair in pixels])
    predictions = np.concatenate([pair[1].ravel() for pair in pixels])
    union = ((labels == label) | (predictions == label)).sum()
    return ((labels == label) & (predictions == label)).sum() / union if union else 0.0


@pytest.mark.parametrize("seed", range(3))
def test_mean_iou_counts_absent_classes_as_zero(seed: int) -> None:
    pairs = random_pairs(seed)
    expected = np.mean([iou_of_pixels(pairs, label) for label in range(K + 1)])
    assert scores_of(pairs).mean_iou == pytest.approx(expected, abs=1e-12)
    assert iou_of_pixels(pairs, K) == 0


@pytest.mark.parametrize("seed", range(3))
def test_sizes_are_scored_among_their_own_pixels(seed: int) -> None:
    pairs = random_pairs(seed)
    ends = [0, 5, 25, 50, 100]
    found = dataclasses.astuple(scores_of(pairs))[3:]
    for low, high, ours in zip(ends, ends[1:], found, strict=False):
        pixels, labels_there = [], set()
        for labels, predictions in pairs:
            of_size = [
                label
                for label in range(1, K + 1)
                if low < math.ceil(100 * (labels == label).sum() / labels.size) <= high
            ]
            if of_size:
                kept = np.isin(labels, [0, *of_size])
                pixels.append((labels[kept], predictions[kept]))
                labels_there |= {0, *of_size}
        assert labels_there, "no object of this size: the test would show nothing"
        expected = np.mean([iou_of_pixels(pixels, label) for label in labels_there])
        assert ours == pytest.approx(expected, abs=1e-12)


def test_image_accuracy_asks_for_the_most_frequent_category_alone() -> None:
    labels = np.zeros((10, 10), dtype=np.int64)
    labels[:2] = 3
    right, wrong = labels.copy(), labels.copy()
    right[5, :3] = 1
    wrong[5:9] = 1
    nothing = np.zeros_like(labels)
    assert scores_of([(labels, right)]).image_accuracy == 1
    assert scores_of([(labels, wrong)]).image_accuracy == 0
    assert scores_of([(labels, nothing)]).image_accuracy == 0
    three = scores_of([(labels, right), (labels, wrong), (labels, nothing)])
    assert three.image_accuracy == pytest.approx(1 / 3)


def test_f_measure_knows_foreground_and_background_only() -> None:
    labels = np.zeros((10, 10), dtype=np.int64)
    labels[:4] = 2
    predictions = np.zeros_like(labels)
    predictions[2:4] = 1  # of another category: foreground is foreground
    predictions[9] = 1
    precision, recall = 20 / 30, 20 / 40
    expected = 1.3 * precision * recall / (0.3 * precision + recall)
    assert scores_of([(labels, predictions)]).f_measure == pytest.approx(expected, abs=1e-12)
    empty = np.zeros_like(labels)
    assert scores_of([(labels, predictions), (labels, empty)]).f_measure == pytest.approx(
        expected / 2
    )


def test_sizes_without_objects_and_no_images_are_undefined() -> None:
    labels = np.zeros((10, 10), dtype=np.int64)
    labels[:2] = 1
    scores = scores_of([(labels, labels)])
    assert scores.mean_iou_ms == 1
    assert math.isnan(scores.mean_iou_l)
    assert all(math.isnan(value) for value in dataclasses.astuple(ImageNetSTally(K).scores()))
