"""Views of a region show its object as it is, and its surroundings faintly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from zutis_model.regions.views import bounding_box, region_views

RED, GREEN = (220, 30, 30), (20, 200, 60)


def red_square_on_green(height: int = 60, width: int = 90) -> tuple[Image.Image, np.ndarray]:
    pixels = np.full((height, width, 3), GREEN, dtype=np.uint8)
    mask = np.zeros((height, width), dtype=bool)
    mask[20:40, 30:50] = True
    pixels[mask] = RED
    return Image.fromarray(pixels), mask


def test_the_object_keeps_its_colours_and_fills_the_tight_view_more_than_the_wide_one():
    image, mask = red_square_on_green()
    tight, wide = region_views(image, mask, 64, margins=(0.0, 0.5))
    assert tight.shape == wide.shape == (64, 64, 3)
    assert tight.dtype == np.uint8
    reds = [view[..., 0].astype(int) - view[..., 1] > 100 for view in (tight, wide)]
    assert reds[0].mean() > 0.9
    assert reds[1].mean() == pytest.approx(0.25, abs=0.03), "a square of half the view's side"
    assert np.all(np.abs(wide[32, 32].astype(int) - RED) < 12), "as it is in the image"


def test_the_surroundings_are_grey():
    image, mask = red_square_on_green()
    (view,) = region_views(image, mask, 64, margins=(0.5,))
    corner = view[:8, :8].astype(int)
    assert np.ptp(corner, axis=-1).max() == 0


def test_surroundings_have_little_contrast():
    rng = np.random.default_rng(0)
    noise = np.repeat(np.repeat(rng.random((12, 18, 3)) > 0.5, 5, axis=0), 5, axis=1)
    image = Image.fromarray((noise * 255).astype(np.uint8))
    _, mask = red_square_on_green()
    (view,) = region_views(image, mask, 64, margins=(0.5,))
    assert view[:12].std() < 0.3 * np.asarray(image).std()


def test_an_object_at_the_edge_stays_in_the_middle_and_what_is_beyond_is_mid_grey():
    image, _ = red_square_on_green()
    mask = np.zeros((60, 90), dtype=bool)
    mask[0:20, 0:20] = True
    (view,) = region_views(image, mask, 40, margins=(0.5,))
    assert np.all(np.abs(view[:9].astype(int) - 128) <= 1)
    assert np.all(np.abs(view[:, :9].astype(int) - 128) <= 1)
    assert np.all(np.abs(view[20, 20].astype(int) - GREEN) < 12), "the object's own pixels"


def test_views_depend_on_nothing_but_the_region():
    image, mask = red_square_on_green()
    first = region_views(image, mask, 32)
    assert np.array_equal(first, region_views(image, mask, 32))


def test_a_mask_of_one_pixel_has_a_view():
    image, _ = red_square_on_green()
    mask = np.zeros((60, 90), dtype=bool)
    mask[59, 89] = True
    assert region_views(image, mask, 32).shape == (2, 32, 32, 3)


def test_boxes_exclude_their_ends():
    _, mask = red_square_on_green()
    assert bounding_box(mask) == (20, 40, 30, 50)


def test_wrong_input_is_refused():
    image, mask = red_square_on_green()
    with pytest.raises(ValueError, match="no pixel"):
        region_views(image, np.zeros_like(mask), 32)
    with pytest.raises(ValueError, match=r"\(30, 90\)"):
        region_views(image, mask[:30], 32)
    with pytest.raises(ValueError, match="mode L"):
        region_views(image.convert("L"), mask, 32)
