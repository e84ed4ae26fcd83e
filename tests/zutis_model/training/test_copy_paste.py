"""Views of images and the canvas: crops, and pasted objects in labels and instances."""

from __future__ import annotations

import numpy as np
import pytest

from zutis_model.training.copy_paste import Box, Canvas, bounding_box, uniform_index, view

S = 32


def blank(first: np.ndarray | None = None) -> Canvas:
    if first is None:
        first = np.zeros((S, S), np.bool_)
    return Canvas(np.zeros((3, S, S), np.uint8), np.where(first, 7, 0).astype(np.uint8), first)


def crop(height, width, *, scale=1.0, fill_first=(False, False), offset=(0.0, 0.0)):
    return view(height, width, S, scale=scale, fill_first=fill_first, offset=offset)


def test_a_larger_image_fills_the_crop():
    first = crop(100, 50)
    last = crop(100, 50, offset=(0.9999, 0.9999))
    assert first.image == last.image == Box(0, 0, S, S)
    assert first.in_scaled_image(first.image) == Box(0, 0, S, S)
    assert last.in_scaled_image(last.image) == Box(100 - S, 50 - S, 100, 50)


def test_all_offsets_of_a_larger_image_are_equally_likely():
    starts = [crop(34, 40, offset=(u, 0)).top for u in (np.arange(300) + 0.5) / 300]
    assert np.bincount(starts).tolist() == [100, 100, 100]


def test_a_smaller_image_is_filled_up_before_or_after():
    assert crop(10, 20).image == Box(0, 0, 10, 20)
    assert crop(10, 20, fill_first=(True, False)).image == Box(S - 10, 0, S, 20)
    assert crop(10, 20, fill_first=(True, True)).image == Box(S - 10, S - 20, S, S)
    wide = crop(10, 50, fill_first=(True, True), offset=(0.9999, 0.9999))
    assert wide.image == Box(S - 10, 0, S, S)
    assert wide.in_scaled_image(wide.image) == Box(0, 50 - S, 10, 50)


def test_sizes_are_cut_off_and_never_empty():
    seen = crop(101, 99, scale=0.25)
    assert (seen.height, seen.width) == (25, 24)
    tiny = crop(4, 90, scale=0.1)
    assert (tiny.height, tiny.width) == (1, 9)


def test_labels_are_those_under_the_pixels_centres():
    labels = np.arange(60, dtype=np.uint8).reshape(6, 10)
    np.testing.assert_array_equal(crop(6, 10).labels(labels), labels)
    np.testing.assert_array_equal(crop(6, 10, scale=0.5).labels(labels), labels[1::2, 1::2])
    third = crop(60, 90, scale=1 / 3 + 1e-9, fill_first=(True, True))
    np.testing.assert_array_equal(
        third.labels(np.tile(np.arange(90), (60, 1)))[0], np.arange(90)[1::3]
    )


def test_labels_follow_the_crop():
    labels = np.arange(4800, dtype=np.uint16).reshape(60, 80)
    seen = crop(60, 80, offset=(0.5, 0.9999))
    np.testing.assert_array_equal(
        seen.labels(labels), labels[seen.top : seen.top + S, seen.left : seen.left + S]
    )
    assert (seen.top, seen.left) == (14, 48)


def test_bounding_box_holds_the_last_row_and_column():
    mask = np.zeros((8, 9), np.bool_)
    assert bounding_box(mask) is None
    mask[2, 8] = mask[7, 4] = True
    assert bounding_box(mask) == Box(2, 4, 8, 9)
    single = np.zeros((8, 9), np.bool_)
    single[3, 5] = True
    assert bounding_box(single) == Box(3, 5, 4, 6)


def test_boxes():
    box = Box(2, 3, 5, 9)
    assert (box.height, box.width) == (3, 6)
    assert box.with_margin(4, S) == Box(0, 0, 9, 13)
    assert box.with_margin(30, S) == Box(0, 0, S, S)
    assert box.intersection(Box(4, 0, 10, 4)) == Box(4, 3, 5, 4)
    nothing = box.intersection(Box(6, 10, 8, 12))
    assert (nothing.height, nothing.width) == (0, 0)


def test_an_object_is_pasted_whole():
    canvas = blank()
    mask = np.array([[True, False, True], [True, True, True]])
    pixels = np.arange(18, dtype=np.uint8).reshape(3, 2, 3) + 1
    place = canvas.paste(pixels, mask, 3, (0.5, 0.9999))
    assert place == Box(15, S - 3, 17, S)
    expected = np.zeros((3, S, S), np.uint8)
    expected[:, 15:17, S - 3 :] = pixels * mask
    np.testing.assert_array_equal(canvas.pixels, expected)
    np.testing.assert_array_equal(canvas.labels, np.where(expected[0], 3, 0))
    np.testing.assert_array_equal(canvas.instances()[1], canvas.labels == 3)


def test_an_object_of_the_canvas_size_has_one_place():
    mask = np.ones((S, S), np.bool_)
    canvas = blank()
    canvas.paste(np.full((3, S, S), 9, np.uint8), mask, 3, (0.99, 0.3))
    assert (canvas.pixels == 9).all()


def test_all_places_are_equally_likely():
    object_ = np.ones((3, S - 2, 4), np.uint8), np.ones((S - 2, 4), np.bool_)
    tops = [blank().paste(*object_, 3, (u, 0)).top for u in (np.arange(300) + 0.5) / 300]
    assert np.bincount(tops).tolist() == [100, 100, 100]


def test_later_objects_hide_earlier_ones():
    first = np.zeros((S, S), np.bool_)
    first[:8, :8] = True
    canvas = blank(first)
    canvas.labels[:, 20:] = 255
    block = np.ones((4, 4), np.bool_)
    canvas.paste(np.full((3, 4, 4), 1, np.uint8), block, 3, (0, 0))
    canvas.skip()
    canvas.paste(np.full((3, 4, 4), 2, np.uint8), block, 5, (0, 0))
    canvas.paste(np.full((3, 4, 4), 4, np.uint8), block, 3, (0.9999, 0.9999))
    instances = canvas.instances()
    assert instances.dtype == np.bool_
    assert instances.sum(axis=(1, 2)).tolist() == [64 - 16, 0, 0, 16, 16]
    assert instances.sum(axis=0).max() == 1
    assert (canvas.labels[:4, :4] == 5).all()
    assert (canvas.labels[4:8, :8] == 7).all()
    assert (canvas.labels[-4:, -4:] == 3).all()  # also over what was to be ignored
    assert (canvas.labels[10, 20:] == 255).all()


def test_labels_of_16_bits():
    canvas = Canvas(
        np.zeros((3, S, S), np.uint8), np.zeros((S, S), np.uint16), np.zeros((S, S), np.bool_)
    )
    canvas.paste(np.ones((3, 2, 2), np.uint8), np.ones((2, 2), np.bool_), 919, (0, 0))
    assert canvas.labels[0, 0] == 919


def test_wrong_sizes():
    with pytest.raises(ValueError, match="does not fit"):
        blank().paste(np.ones((3, 2, S + 1), np.uint8), np.ones((2, S + 1), np.bool_), 3, (0, 0))
    with pytest.raises(ValueError, match="one size"):
        Canvas(np.zeros((3, 4, 4), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((4, 4), bool))


def test_uniform_index_stays_in_range():
    assert uniform_index(0.0, 3) == 0
    assert uniform_index(np.nextafter(1, 0), 3) == 2
    assert uniform_index(np.nextafter(1, 0), 2**53) == 2**53 - 1
