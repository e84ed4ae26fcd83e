from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh

from zutis_model.saliency import spectral_clusters as module
from zutis_model.saliency.spectral_clusters import k_means, spectral_clusters, spectral_embedding


def regions(labels: np.ndarray, noise: float = 0.3, seed: int = 0, channels: int = 16):
    """Features float32 [r, c, channels]: a direction for each region, and noise."""
    random = np.random.default_rng(seed)
    directions = 2 * np.eye(channels)[labels]
    return (directions + random.normal(0, noise, directions.shape)).astype(np.float32)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(a)) == len(np.unique(b))


def square(rows: int = 12, columns: int = 15) -> np.ndarray:
    labels = np.zeros((rows, columns), dtype=np.int64)
    labels[3:8, 4:10] = 1
    return labels


@pytest.mark.parametrize("size", [(6, 7), (12, 15)])  # all eigenvectors, and only the first
def test_two_plain_regions(size):
    truth = np.zeros(size, dtype=np.int64)
    truth[2:5, 1:5] = 1
    (found,) = spectral_clusters(regions(truth), (2,))
    assert found.dtype == np.int64
    assert found.shape == size
    assert same_partition(found, truth)


def test_several_counts_at_once():
    truth = square()
    truth[9:, 11:] = 2
    two, three, four = spectral_clusters(regions(truth, noise=0.2), (2, 3, 4))
    assert same_partition(three, truth)
    for found, count in ((two, 2), (four, 4)):
        assert set(np.unique(found)) == set(range(count))


def test_equal_features_give_equal_clusters():
    features = np.random.default_rng(1).normal(size=(11, 13, 8)).astype(np.float32)
    first = spectral_clusters(features)
    np.testing.assert_array_equal(spectral_clusters(features.copy()), first)
    flat = features.reshape(-1, 8).astype(np.float64)
    np.testing.assert_array_equal(spectral_embedding(flat, 4), spectral_embedding(flat, 4))


def test_the_length_of_features_means_nothing():
    features = regions(square())
    lengths = np.random.default_rng(2).uniform(0.5, 4, (12, 15, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        spectral_clusters(features), spectral_clusters(features * lengths)
    )


def test_the_embedding_solves_the_generalised_problem(monkeypatch):
    features = np.random.default_rng(3).normal(size=(90, 5))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T
    affinity = (cosines - cosines.min()) / (cosines.max() - cosines.min())
    degrees = np.diag(affinity.sum(axis=1))
    values, vectors = eigh(degrees - affinity, degrees)
    found = spectral_embedding(features, 3)
    for column in range(3):
        residual = (degrees - affinity) @ found[:, column]
        np.testing.assert_allclose(residual, values[column] * degrees @ found[:, column], atol=1e-8)
        assert abs(vectors[:, column] @ degrees @ found[:, column]) == pytest.approx(1, abs=1e-6)
    assert np.ptp(found[:, 0]) < 1e-8
    monkeypatch.setattr(module, "_FEW_PATCHES", 1000)
    np.testing.assert_allclose(np.abs(spectral_embedding(features, 3)), np.abs(found), atol=1e-7)


def test_an_image_that_is_all_alike():
    labels = spectral_clusters(np.ones((9, 9, 4), dtype=np.float32))
    assert labels.shape == (3, 9, 9)
    zeros = spectral_clusters(np.zeros((3, 3, 4), dtype=np.float32))
    assert zeros.shape == (3, 3, 3)


def test_k_means_finds_tight_groups():
    random = np.random.default_rng(4)
    truth = np.repeat(np.arange(4), 30)
    points = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])[truth] + random.normal(0, 0.5, (120, 2))
    assert same_partition(k_means(points, 4), truth)


def test_k_means_of_equal_points():
    assert set(k_means(np.zeros((5, 2)), 3)) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("features", "counts", "message"),
    [
        (np.zeros((4, 4)), (2,), r"\[r, c, d\], got \[4, 4\]"),
        (np.zeros((0, 4, 3)), (2,), "features must be"),
        (np.full((4, 4, 3), np.nan), (2,), "NaN"),
        (np.zeros((2, 2, 3)), (2, 5), r"cluster_counts must be 2\.\.4, got 5"),
        (np.zeros((2, 2, 3)), (1,), "got 1"),
    ],
)
def test_bad_arguments(features, counts, message):
    with pytest.raises(ValueError, match=message):
        spectral_clusters(features, counts)
