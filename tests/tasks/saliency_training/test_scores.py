from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.saliency_training.scores import at_size, mean_iou, network_iou
from zutis_model.saliency.selfmask import load_selfmask
from zutis_model.saliency.selfmask_sizes import SelfMaskSizes


def test_mean_iou_by_hand():
    truth = np.zeros((4, 4), dtype=bool)
    truth[:2] = True
    left = np.zeros((4, 4), dtype=bool)
    left[:, :2] = True
    nothing = np.zeros((4, 4), dtype=bool)
    assert mean_iou([truth, left, nothing], [truth, truth, truth]) == pytest.approx(
        (1 + 4 / 12) / 3
    )
    assert mean_iou([truth, left], [truth, nothing]) == 1  # no truth, no score
    assert math.isnan(mean_iou([truth], [nothing]))


def test_ground_truth_of_another_size():
    truth = np.zeros((8, 12), dtype=bool)
    truth[:4, :6] = True
    mask = np.zeros((4, 6), dtype=bool)
    mask[:2, :3] = True
    assert mean_iou([mask], [truth]) == 1
    np.testing.assert_array_equal(at_size(mask, (8, 12)), truth)


def test_a_networks_masks_before_and_after_refinement():
    sizes = SelfMaskSizes(width=32, encoder_layers=1, decoder_layers=1, queries=2, grid=3)
    images = [np.full((30, 40, 3), shade, dtype=np.uint8) for shade in (9, 90, 200)]
    truths = [np.ones((30, 40), dtype=bool), np.zeros((30, 40), dtype=bool)] * 2
    network = load_selfmask(sizes=sizes)
    found = network_iou(network, images, truths[:3], image_size=24, at_most=5)
    assert all(0 <= score <= 1 for score in found)
    first = network_iou(network, images, truths[:3], image_size=24, at_most=1)
    alone = network_iou(network, images[:1], truths[:1], image_size=24, at_most=5)
    assert first == alone
