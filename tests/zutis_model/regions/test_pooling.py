"""Means of dense features: of the mask, around it, elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from zutis_model.regions.pooling import patch_shares, pooled_features


def test_patches_count_by_the_share_that_the_mask_covers():
    mask = np.zeros((40, 40), dtype=bool)
    mask[:10, :15] = True
    shares = patch_shares(mask, (4, 4))
    assert shares[0, 0] == 1
    assert shares[0, 1] == pytest.approx(0.5, abs=0.01)
    assert shares[1:].max() == 0


def test_a_cosine_of_a_mean_is_the_mean_of_the_cosines():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(12, 12, 8)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    text = rng.normal(size=8).astype(np.float32)
    mask = np.zeros((96, 96), dtype=bool)
    mask[32:64, 32:64] = True
    inside, ring, rest, whole = pooled_features(tokens, mask)
    cosines = tokens @ text
    block = np.zeros((12, 12), dtype=bool)
    block[4:8, 4:8] = True
    assert inside @ text == pytest.approx(cosines[block].mean(), rel=1e-4)
    total = 16 * (inside @ text)
    ring_number = 144 - 16 - np.count_nonzero(~_within_two(block))
    total += ring_number * (ring @ text) + np.count_nonzero(~_within_two(block)) * (rest @ text)
    assert whole @ text == pytest.approx(cosines.mean(), rel=1e-3, abs=1e-5)
    assert total == pytest.approx(cosines.sum(), rel=1e-3, abs=1e-3)


def _within_two(block: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(block)
    y, x = np.mgrid[: block.shape[0], : block.shape[1]]
    steps = np.abs(y[..., None] - rows) + np.abs(x[..., None] - columns)
    return steps.min(axis=-1) <= 2


def test_a_mask_of_the_whole_image_has_no_surroundings():
    tokens = np.ones((4, 4, 2), dtype=np.float32)
    _, ring, rest, _ = pooled_features(tokens, np.ones((32, 32), dtype=bool))
    assert not ring.any()
    assert not rest.any()
