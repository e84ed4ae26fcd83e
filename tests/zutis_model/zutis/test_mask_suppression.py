import math

import numpy as np
import pytest
import torch

from zutis_model.zutis import mask_suppression
from zutis_model.zutis.mask_suppression import (
    _intersections_by_products,
    _intersections_of_bits,
    pairwise_iou,
    suppress_overlapping,
)


def strips(*intervals, width=20):
    """Masks of two rows and `width` columns: [n, 2, width]."""
    masks = torch.zeros((len(intervals), 2, width), dtype=torch.bool)
    for mask, (start, stop) in zip(masks, intervals, strict=True):
        mask[:, start:stop] = True
    return masks


# Columns 0-9, 5-14 and 8-17. IoU of the first and second 5 / 15, of the second and third 7 / 13,
# of the first and third 2 / 18.
MASKS = strips((0, 10), (5, 15), (8, 18))
SCORES = torch.tensor([0.9, 0.8, 0.7])
ONE_CATEGORY = torch.tensor([4, 4, 4])


def suppressed(masks, scores, category_ids, **settings):
    indices, lowered = suppress_overlapping(masks, scores, category_ids, **settings)
    assert indices.dtype == torch.int64
    assert lowered.dtype == torch.float32
    return dict(zip(indices.tolist(), lowered.tolist(), strict=True))


def approximately(expected):
    return pytest.approx(expected, rel=1e-6)


def test_iou_of_strips():
    iou = pairwise_iou(MASKS)
    assert iou.dtype == torch.float64
    expected = [[1, 1 / 3, 1 / 9], [1 / 3, 1, 7 / 13], [1 / 9, 7 / 13, 1]]
    np.testing.assert_allclose(iou, expected, rtol=1e-7)


def test_iou_of_empty_masks_is_zero():
    assert pairwise_iou(strips((0, 0), (3, 3), (0, 20))).tolist()[:2] == [[0, 0, 0], [0, 0, 0]]
    assert pairwise_iou(torch.zeros((0, 4, 5), dtype=torch.bool)).shape == (0, 0)


@pytest.mark.parametrize("pixels_at_once", [1, 100, 10**9])
def test_iou_is_that_of_each_pair_alone(pixels_at_once, monkeypatch):
    monkeypatch.setattr(mask_suppression, "_PIXELS_AT_ONCE", pixels_at_once)
    masks = torch.rand(7, 19, 23) < torch.linspace(0, 1, 7)[:, None, None]
    iou = pairwise_iou(masks)
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            expected = (a & b).sum().item() / ((a | b).sum().item() + 1e-7)
            assert iou[i, j].item() == expected


def test_iou_counts_are_exact_where_float32_no_longer_is():
    # 2 ** 24 + 2 ** 23 pixels, one of them missing from the second mask.
    masks = torch.ones((2, 4096, 6144), dtype=torch.bool)
    masks[1, 0, 0] = False
    pixels = 4096 * 6144
    assert pairwise_iou(masks)[0, 1].item() == (pixels - 1) / (pixels + 1e-7)


def test_hard_suppression_drops_what_overlaps():
    # The first drops the second (1 / 3 > 0.3), so that nothing drops the third.
    expected = {0: 0.9, 2: 0.7}
    assert suppressed(MASKS, SCORES, ONE_CATEGORY) == approximately(expected)
    # Of lower scores first: the third drops the second, not the first.
    reverse = suppressed(MASKS, SCORES.flip(0), ONE_CATEGORY)
    assert reverse == approximately({0: 0.7, 2: 0.9})


def test_linear_suppression_lowers_what_overlaps():
    # First kept: 0.9. Second: 0.8 · 2/3 = 0.533. Third: IoU 1/9 with the first doesn't count, so
    # it comes next with 0.7, and lowers the second to 0.533 · 6/13.
    expected = {0: 0.9, 1: 0.8 * 2 / 3 * 6 / 13, 2: 0.7}
    assert suppressed(MASKS, SCORES, ONE_CATEGORY, suppression="linear") == approximately(expected)


def test_gaussian_suppression_lowers_everything():
    # Second: 0.8 · exp(-(1/9) / 0.5) = 0.641; third: 0.7 · exp(-(1/81) / 0.5) = 0.683, the better.
    third = 0.7 * math.exp(-((1 / 9) ** 2) / 0.5)
    second = 0.8 * math.exp(-((1 / 3) ** 2) / 0.5) * math.exp(-((7 / 13) ** 2) / 0.5)
    actual = suppressed(MASKS, SCORES, ONE_CATEGORY, suppression="gaussian")
    assert actual == approximately({0: 0.9, 1: second, 2: third})

    narrow = suppressed(MASKS, SCORES, ONE_CATEGORY, suppression="gaussian", sigma=0.05)
    assert narrow[2] == approximately(0.7 * math.exp(-((1 / 9) ** 2) / 0.05))


def test_without_suppression_everything_stays():
    scores = torch.tensor([0.9, 0.0005, 0.0])
    kept = suppressed(MASKS, scores, ONE_CATEGORY, suppression=None)
    assert kept == approximately({0: 0.9, 1: 0.0005, 2: 0.0})


@pytest.mark.parametrize("suppression", ["hard", "linear", "gaussian"])
def test_categories_do_not_suppress_each_other(suppression):
    kept = suppressed(MASKS, SCORES, torch.tensor([1, 2, 3]), suppression=suppression)
    assert kept == approximately({0: 0.9, 1: 0.8, 2: 0.7})


@pytest.mark.parametrize("suppression", ["hard", "linear", "gaussian"])
def test_categories_are_suppressed_as_if_alone(suppression):
    masks = torch.rand(30, 12, 12) < 0.7
    masks |= torch.rand(1, 12, 12) < 0.4
    scores, category_ids = torch.rand(30), torch.randint(1, 5, (30,))
    expected = {}
    for category in category_ids.unique():
        members = (category_ids == category).nonzero()[:, 0]
        alone = suppressed(
            masks[members], scores[members], category_ids[members], suppression=suppression
        )
        expected |= {members[i].item(): score for i, score in alone.items()}
    assert suppressed(masks, scores, category_ids, suppression=suppression) == expected


@pytest.mark.parametrize("suppression", ["hard", "linear"])
def test_threshold_is_strict(suppression):
    masks = strips((0, 4), (2, 4))
    scores, category_ids = torch.tensor([0.9, 0.8]), torch.tensor([1, 1])
    iou = 4 / (8 + 1e-7)  # in pixels, with the reference's epsilon
    for threshold, changed in ((iou, False), (math.nextafter(iou, 0), True)):
        kept = suppressed(
            masks,
            scores,
            category_ids,
            suppression=suppression,
            suppression_threshold=threshold,
        )
        assert (kept != approximately({0: 0.9, 1: 0.8})) == changed


@pytest.mark.parametrize("suppression", ["hard", "linear", "gaussian"])
def test_scores_have_to_stay_above_the_floor(suppression):
    masks = strips((0, 2), (4, 6), (8, 10), (12, 14))
    scores = torch.tensor([0.9, 0.25, 0.251, 0.0])
    category_ids = torch.tensor([1, 1, 1, 2])
    kept = suppressed(masks, scores, category_ids, suppression=suppression, score_threshold=0.25)
    # 0.25 isn't strictly above; the best of the second category stays with any score.
    assert kept == approximately({0: 0.9, 2: 0.251, 3: 0.0})


def test_same_masks_lose_everything_by_linear_suppression():
    masks = strips((0, 10), (0, 10))
    kept = suppressed(masks, torch.tensor([0.8, 0.9]), torch.tensor([1, 1]), suppression="linear")
    assert kept == approximately({1: 0.9})


@pytest.mark.parametrize("suppression", ["hard", "linear", "gaussian"])
def test_empty_masks_take_part_and_change_no_score(suppression):
    masks = strips((0, 0), (5, 5), (0, 10))
    scores = torch.tensor([0.9, 0.8, 0.7])
    kept = suppressed(masks, scores, ONE_CATEGORY, suppression=suppression)
    assert kept == approximately({0: 0.9, 1: 0.8, 2: 0.7})
    # The empty one comes first, so that the other one has to pass the floor.
    kept = suppressed(masks[1:], scores[1:], ONE_CATEGORY[1:], score_threshold=0.75)
    assert kept == approximately({0: 0.8})


def test_the_first_of_equal_scores_wins():
    masks = strips((0, 10), (0, 10), (0, 10))
    assert list(suppressed(masks, torch.full((3,), 0.5), ONE_CATEGORY)) == [0]


def test_no_masks():
    empty = torch.zeros(0)
    masks = torch.zeros((0, 4, 5), dtype=torch.bool)
    for suppression in ("hard", "linear", "gaussian", None):
        assert suppressed(masks, empty, empty.long(), suppression=suppression) == {}


def test_autocast_around_it_changes_nothing():
    masks = torch.rand(5, 60, 60) < 0.6  # counts that bfloat16 can't distinguish
    expected = _intersections_by_products(masks.flatten(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(_intersections_by_products(masks.flatten(1)), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"suppression": "soft"}, "hard, linear, gaussian or None, got 'soft'"),
        ({"suppression_threshold": 1.5}, "suppression_threshold .* 1.5"),
        ({"suppression_threshold": math.nan}, "suppression_threshold"),
        ({"sigma": 0}, "sigma must be above 0, got 0"),
        ({"score_threshold": -0.1}, "score_threshold .* -0.1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        suppress_overlapping(MASKS, SCORES, ONE_CATEGORY, **settings)


def test_bad_candidates_are_refused():
    with pytest.raises(ValueError, match=r"masks must be bool \[n, H, W\], got torch.float32"):
        suppress_overlapping(MASKS.float(), SCORES, ONE_CATEGORY)
    with pytest.raises(ValueError, match=r"scores must have one value for each of 3 masks"):
        suppress_overlapping(MASKS, SCORES[:2], ONE_CATEGORY)
    with pytest.raises(ValueError, match="category_ids must have one value"):
        suppress_overlapping(MASKS, SCORES, ONE_CATEGORY[:2])
    with pytest.raises(ValueError, match="scores must be finite"):
        suppress_overlapping(MASKS, torch.tensor([0.9, math.nan, 0.7]), ONE_CATEGORY)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("suppression", ["hard", "linear", "gaussian", None])
def test_gpu_agrees(suppression):
    masks = torch.rand(40, 90, 90) < 0.7
    scores, category_ids = torch.rand(40), torch.randint(1, 5, (40,))
    expected = suppress_overlapping(masks, scores, category_ids, suppression=suppression)
    actual = suppress_overlapping(
        masks.cuda(), scores.cuda(), category_ids.cuda(), suppression=suppression
    )
    for a, e in zip(actual, expected, strict=True):
        assert a.is_cuda
        assert torch.equal(a.cpu(), e)


@pytest.mark.parametrize("pixels", [1, 63, 64, 65, 8192, 20_001])
def test_both_ways_to_count_common_pixels_agree(pixels):
    masks = torch.rand(7, pixels, generator=torch.Generator().manual_seed(pixels)) < 0.4
    masks[0] = True
    by_bits = torch.from_numpy(_intersections_of_bits(masks.numpy()))
    assert torch.equal(by_bits, _intersections_by_products(masks))
    assert by_bits[0].tolist() == masks.sum(dim=1).tolist()
