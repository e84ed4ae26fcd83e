from __future__ import annotations

import numpy as np
import pytest

from zutis_model.saliency.voting import elect_salient, frames_image, pairwise_iou


def box(top, left, bottom, right, size=(20, 30)):
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


FRAME = ~box(5, 5, 15, 25)
OBJECT = box(5, 5, 15, 15)


def test_a_mask_that_spans_the_image_is_background():
    """The frame, and even a strip, also if all others agree with them."""
    vertical, horizontal = box(0, 3, 20, 6), box(9, 0, 11, 30)
    masks = np.array([FRAME, FRAME, FRAME, vertical, horizontal, OBJECT])
    assert frames_image(masks).tolist() == [True] * 5 + [False]
    assert elect_salient(masks).index == 5


def test_touching_one_side_or_a_corner_is_allowed():
    masks = np.array([box(0, 0, 9, 9), box(0, 3, 19, 9), box(4, 1, 8, 30)])
    assert not frames_image(masks).any()


def test_the_one_that_agrees_most_wins():
    masks = np.array([box(1, 1, 4, 4), OBJECT, box(5, 5, 15, 17), box(5, 5, 14, 15), FRAME])
    vote = elect_salient(masks)
    assert vote.index == 1
    others = [0, 100 / 120, 90 / 100]
    assert vote.agreement == pytest.approx(sum(others) / 3)


def test_one_candidate_wins_with_no_agreement():
    vote = elect_salient(np.array([FRAME, np.zeros_like(FRAME), OBJECT]))
    assert (vote.index, vote.agreement) == (2, 0.0)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_only_framing_or_empty_candidates(count):
    assert elect_salient(np.repeat(FRAME[None], count, axis=0)) is None
    assert elect_salient(np.zeros((count, 20, 30), dtype=bool)) is None


def test_pairwise_iou():
    masks = np.random.default_rng(0).random((5, 7, 9)) > 0.5
    masks[4] = False
    found = pairwise_iou(masks)
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            union = (a | b).sum()
            assert found[i, j] == pytest.approx((a & b).sum() / union if union else 0)


@pytest.mark.parametrize("masks", [np.zeros((3, 4, 4)), np.zeros((4, 4), dtype=bool)])
def test_bad_arguments(masks):
    with pytest.raises(ValueError, match="candidates must be bool"):
        elect_salient(masks)
