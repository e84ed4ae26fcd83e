"""Objects in a mask: connected pieces, and parts that only touch."""

from __future__ import annotations

import numpy as np
import pytest

from zutis_model.refinement.mask_statistics import intersection_over_union
from zutis_model.regions.pieces import distinct, objects_in


def disc(centre: tuple[int, int], radius: int, size: tuple[int, int] = (60, 90)) -> np.ndarray:
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside: np.ndarray = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    return inside


def test_pieces_apart_are_objects_of_their_own_the_largest_first():
    small, large = disc((30, 15), 9), disc((30, 60), 20)
    found = objects_in(small | large, least_share=0.003)
    assert [each.part_of for each in found] == [None, None]
    assert np.array_equal(found[0].mask, large)
    assert np.array_equal(found[1].mask, small)


def test_pieces_that_touch_at_a_corner_are_one():
    mask = np.zeros((20, 20), dtype=np.bool_)
    mask[2:8, 2:8] = True
    mask[8:14, 8:14] = True
    assert objects_in(mask, least_share=0.01)[0].mask.sum() == 72


def test_specks_are_no_objects():
    speck = np.zeros((60, 90), dtype=np.bool_)
    speck[2:5, 2:5] = True
    found = objects_in(speck | disc((30, 60), 20), least_share=0.003)
    assert len(found) == 1
    assert not found[0].mask[3, 3]
    assert objects_in(speck, least_share=0.003) == []
    assert objects_in(np.zeros((4, 4), dtype=np.bool_), least_share=0.0) == []


def test_objects_that_only_touch_are_found_as_parts_beside_the_whole():
    small, large = disc((30, 20), 10), disc((30, 49), 20)
    found = objects_in(small | large, least_share=0.003)
    assert np.array_equal(found[0].mask, small | large)
    parts = [each for each in found if each.part_of == 0]
    assert len(parts) == 2
    for true in (small, large):
        assert max(intersection_over_union(true, each.mask) for each in parts) > 0.9
    assert not (parts[0].mask & parts[1].mask).any()


def test_a_compact_object_has_no_parts():
    assert len(objects_in(disc((30, 45), 20), least_share=0.003)) == 1
    square = np.zeros((60, 90), dtype=np.bool_)
    square[10:50, 20:60] = True
    assert len(objects_in(square, least_share=0.003)) == 1


def test_a_mask_must_be_bool_of_two_dimensions():
    with pytest.raises(ValueError, match="bool"):
        objects_in(np.zeros((4, 4), dtype=np.uint8), least_share=0.0)  # type: ignore[arg-type]


def test_of_two_masks_that_are_nearly_the_same_the_first_is_kept():
    one, same, other = disc((30, 45), 20), disc((30, 46), 20), disc((30, 45), 8)
    assert distinct([one, same, other]) == [0, 0, 2]
    assert distinct([]) == []
