import numpy as np
import pytest
import skimage.data

from zutis_model.refinement.bilateral_solver import refine_mask
from zutis_model.refinement.mask_cleanup import fill_and_keep_one

IMAGES = ("astronaut", "coffee", "chelsea", "rocket")
EDGE_CASES = ("all_zero", "all_one", "large", "two_boxes")


def drawn(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def unpacked(arrays, name, shape):
    return np.unpackbits(arrays[name], count=shape[0] * shape[1]).reshape(shape).astype(bool)


@pytest.mark.parametrize("tag", [*IMAGES, *(f"edge_{case}" for case in EDGE_CASES)])
def test_reproduces_the_references_second_output(tag, parity_arrays):
    arrays = parity_arrays("bilateral")
    image = getattr(skimage.data, "chelsea" if tag.startswith("edge_") else tag)()
    refined = unpacked(arrays, f"{tag}_soft_gt_half_packed", image.shape[:2])
    expected = unpacked(arrays, f"{tag}_binary_packed", image.shape[:2])
    np.testing.assert_array_equal(fill_and_keep_one(refined, keep="reference"), expected)


def test_large_objects_are_kept_and_not_their_background(parity_arrays):
    image = skimage.data.chelsea()
    target = np.zeros(image.shape[:2], dtype=bool)
    target[:, image.shape[1] // 4 :] = True
    refined = refine_mask(image, target) > 0.5
    assert refined.mean() > 0.5
    assert (fill_and_keep_one(refined) & target).sum() / target.sum() > 0.95
    assert not (fill_and_keep_one(refined, keep="reference") & refined).any()


def test_holes_are_filled_and_the_largest_region_is_kept():
    mask = drawn(
        "##......",
        "##.####.",
        "...#..#.",
        "#..####.",
        ".#.....#",
    )
    expected = drawn(
        "........",
        "...####.",
        "...####.",
        "...####.",
        "........",
    )
    np.testing.assert_array_equal(fill_and_keep_one(mask), expected)


def test_corners_do_not_connect_and_equal_regions_keep_the_first():
    mask = drawn("#..", ".#.", "...")
    np.testing.assert_array_equal(fill_and_keep_one(mask), drawn("#..", "...", "..."))
    reference = fill_and_keep_one(mask, keep="reference")
    np.testing.assert_array_equal(reference, drawn("...", ".#.", "..."))


def test_empty_and_full_masks():
    empty, full = np.zeros((3, 4), dtype=bool), np.ones((3, 4), dtype=bool)
    assert not fill_and_keep_one(empty).any()
    assert fill_and_keep_one(full).all()
    assert fill_and_keep_one(empty, keep="reference").all()
    assert not fill_and_keep_one(full, keep="reference").any()


@pytest.mark.parametrize(
    ("mask", "keep", "message"),
    [
        (np.zeros((2, 2), np.uint8), "largest", "bool"),
        (np.zeros((2, 2, 1), bool), "largest", "mask"),
        (np.zeros((0, 2), bool), "largest", "mask"),
        (np.zeros((2, 2), bool), "second", "second"),
    ],
)
def test_wrong_inputs_are_refused(mask, keep, message):
    with pytest.raises(ValueError, match=message):
        fill_and_keep_one(mask, keep)
