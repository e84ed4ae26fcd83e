"""Pseudo-masks of images with one obvious salient object."""

from __future__ import annotations

import numpy as np
import pytest

from storage.errors.exceptions import ConfigError
from tasks.saliency_training.patch_features import load_patch_features
from tasks.saliency_training.scores import mean_iou
from tasks.saliency_training.votes import VoteConfig, pseudo_mask, pseudo_masks

COLOURS = load_patch_features("colours")
CONFIG = VoteConfig(patches=150)


def image(seed: int = 0, size: tuple[int, int] = (60, 76)) -> tuple[np.ndarray, np.ndarray]:
    """An image of a disc on a noisy background, and its mask."""
    random = np.random.default_rng(seed)
    pixels = random.integers(30, 70, (*size, 3)).astype(np.uint8)
    rows, columns = np.ogrid[: size[0], : size[1]]
    centre = random.integers(22, 38), random.integers(22, 50)
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 15**2
    pixels[disc] += np.array([150, 90, 10], dtype=np.uint8)
    return pixels, disc


def test_the_salient_object_is_found():
    images, truths = zip(*[image(seed) for seed in range(6)], strict=True)
    found = list(pseudo_masks(images, [COLOURS], CONFIG))
    assert all(found)
    assert {one.mask.dtype for one in found} == {np.dtype(bool)}
    assert all(0 < one.agreement <= 1 for one in found)
    assert mean_iou([one.mask for one in found], truths) > 0.9


def test_refinement_brings_masks_to_edges():
    pixels, disc = image(3)
    coarse = pseudo_mask(pixels, [COLOURS], VoteConfig(patches=60, refined=False))
    fine = pseudo_mask(pixels, [COLOURS], VoteConfig(patches=60))
    assert mean_iou([fine.mask], [disc]) > mean_iou([coarse.mask], [disc]) + 0.03


def test_the_same_image_gives_the_same_mask():
    pixels, _ = image(4)
    first, second = (pseudo_mask(pixels, [COLOURS], CONFIG) for _ in range(2))
    np.testing.assert_array_equal(first.mask, second.mask)
    assert first.agreement == second.agreement


def test_sources_of_any_grid_vote_together():
    pixels, disc = image(5)

    def halves(pixels, patches):
        """A source whose features only distinguish left and right."""
        features = np.zeros((3, 4, 2), dtype=np.float32)
        features[:, :2, 0] = features[:, 2:, 1] = 1
        return features

    found = pseudo_mask(pixels, [halves, COLOURS], CONFIG)
    assert mean_iou([found.mask], [disc]) > 0.9


def test_nothing_stands_out():
    def strips(pixels, patches):
        features = np.zeros((6, 4, 3), dtype=np.float32)
        features[:2, :, 0] = features[2:4, :, 1] = features[4:, :, 2] = 1
        return features

    config = VoteConfig(cluster_counts=(2, 3))
    assert pseudo_mask(image()[0], [strips], config) is None


def test_a_winner_needs_agreement():
    pixels, _ = image(6)
    agreement = pseudo_mask(pixels, [COLOURS], CONFIG).agreement
    above = VoteConfig(patches=150, least_agreement=min(1.0, agreement + 0.01))
    below = VoteConfig(patches=150, least_agreement=agreement - 0.01)
    assert pseudo_mask(pixels, [COLOURS], above) is None
    assert pseudo_mask(pixels, [COLOURS], below) is not None


def test_a_tiny_image():
    pixels, _ = image(0, (17, 70))
    found = pseudo_mask(pixels[:, :20], [COLOURS], VoteConfig(patches=16))
    assert found is None or found.mask.shape == (17, 20)


def test_no_source():
    with pytest.raises(ConfigError, match="one source or more"):
        list(pseudo_masks([image()[0]], []))


@pytest.mark.parametrize(
    "setting",
    [{"cluster_counts": ()}, {"cluster_counts": (1, 2)}, {"patches": 4}, {"least_agreement": 2}],
)
def test_settings_that_cant_work(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        VoteConfig(**setting)
