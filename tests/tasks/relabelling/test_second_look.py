"""The second look at a label: sharpened where both agree, left alone where they don't."""

from __future__ import annotations

import numpy as np

from tasks.relabelling.second_look import look_again
from zutis_model.refinement.mask_statistics import intersection_over_union

HEIGHT, WIDTH = 96, 128


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


TRUTH = box(20, 30, 70, 90)
PIXELS = np.where(TRUTH[..., None], (200, 40, 40), (40, 90, 60)).astype(np.uint8)


def test_masks_that_agree_become_one_that_follows_the_images_edges():
    first, found = box(20, 38, 70, 90), box(28, 30, 76, 90)
    look = look_again(PIXELS, first, [box(0, 0, 10, 10), found], least_agreement=0.5)
    assert look.is_sharpened
    assert look.agreement == intersection_over_union(first, found)
    assert intersection_over_union(look.mask, TRUTH) > 0.98
    assert intersection_over_union(first, TRUTH) < 0.9
    assert intersection_over_union(found, TRUTH) < 0.9


def test_a_label_that_the_network_contradicts_stays():
    first = box(20, 30, 70, 90)
    for found in ([], [box(0, 100, 90, 128)], [box(20, 75, 70, 128)]):
        look = look_again(PIXELS, first, found, least_agreement=0.5)
        assert not look.is_sharpened
        assert look.mask is first
        assert look.agreement < 0.5


def test_without_a_least_agreement_there_still_has_to_be_some():
    look = look_again(PIXELS, TRUTH, [box(0, 100, 90, 128)], least_agreement=0.0)
    assert not look.is_sharpened


def test_large_images_are_snapped_at_the_solvers_size_and_give_masks_of_their_own():
    large = np.kron(PIXELS, np.ones((12, 12, 1), dtype=np.uint8))
    first, found = (np.kron(each, np.ones((12, 12), dtype=np.bool_))
                    for each in (box(20, 38, 70, 90), box(28, 30, 76, 90)))  # fmt: skip
    look = look_again(large, first, [found], least_agreement=0.5)
    assert look.mask.shape == first.shape
    truth = np.kron(TRUTH, np.ones((12, 12), dtype=np.bool_))
    assert intersection_over_union(look.mask, truth) > 0.98
