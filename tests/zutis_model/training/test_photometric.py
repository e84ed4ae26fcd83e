"""Photometric augmentation against torchvision's on PIL images, and its blur against SciPy's."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torchvision.transforms.functional as F  # noqa: N812 - the field's name for it
from PIL import Image
from scipy import ndimage

from zutis_model.training.photometric import (
    ColourContext,
    ColourJitter,
    blur_radius,
    gaussian_blur,
    jitter_colours,
    make_grey,
)

ORDER = ("brightness", "contrast", "saturation", "hue")
NOTHING = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


@pytest.fixture
def image(make_image) -> Image.Image:
    """Of rather saturated colours, so that operations cut off at both ends."""
    pixels = make_image(3, 61, 83).astype(np.float64)
    return Image.fromarray(np.clip((pixels - 128) * 2 + 128, 0, 255).astype(np.uint8))


def planes(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def whole(pixels: np.ndarray) -> ColourContext:
    return ColourContext(pixels.reshape(3, 1, -1).copy(), np.ones(pixels[0].size))


def jittered(image: Image.Image, order=ORDER, **changes: float) -> np.ndarray:
    pixels = planes(image)
    jitter_colours(pixels, ColourJitter(order=order, **(NOTHING | changes)), whole(pixels))
    return pixels


def by_torchvision(image: Image.Image, order=ORDER, **changes: float) -> np.ndarray:
    for name in order:
        if name in changes:
            image = getattr(F, f"adjust_{name}")(image, changes[name])
    return planes(image)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.2, 0.77, 1.0, 1.31, 1.8])
def test_factors_are_torchvisions_to_the_bit(image, name, factor):
    expected = by_torchvision(image, **{name: factor})
    np.testing.assert_array_equal(jittered(image, **{name: factor}), expected)


@pytest.mark.parametrize("order", permutations(ORDER[:3]))
def test_factors_in_any_order_are_torchvisions_to_the_bit(image, order):
    changes = {"brightness": 1.6, "contrast": 0.4, "saturation": 1.7}
    expected = by_torchvision(image, order, **changes)
    np.testing.assert_array_equal(jittered(image, (*order, "hue"), **changes), expected)


@pytest.mark.parametrize("turn", [-0.5, -0.2, -0.07, 0.03, 0.2, 0.5])
def test_hue_is_torchvisions_before_rounding(image, turn):
    # Of tensors of numbers: its way with images goes through PIL's HSV, which has 256 hues only.
    expected = 255 * F.adjust_hue(F.to_tensor(image), turn).numpy()
    difference = np.abs(jittered(image, hue=turn) - expected)
    assert difference.max() <= 1.01


def test_hue_turns_primary_colours():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90], [200, 40, 40]])
    pixels = np.ascontiguousarray(colours.T[:, None].astype(np.uint8))
    jitter = ColourJitter(order=ORDER, **(NOTHING | {"hue": 1 / 3}))
    jitter_colours(pixels, jitter, whole(pixels))
    expected = [[0, 255, 0], [0, 0, 255], [255, 0, 0], [90, 90, 90], [40, 200, 40]]
    assert pixels[:, 0].T.tolist() == expected


def test_no_change_changes_nothing(image):
    np.testing.assert_array_equal(jittered(image), planes(image))


def test_contrast_is_about_the_mean_of_the_whole_as_it_is_by_then(image):
    changes = {"brightness": 1.5, "contrast": 0.3}
    expected = by_torchvision(image, **changes)[:, 10:30, 40:60]
    part = planes(image)[:, 10:30, 40:60].copy()
    context = whole(planes(image))
    before = context.colours.copy()
    jitter_colours(part, ColourJitter(order=ORDER, **(NOTHING | changes)), context)
    np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(context.colours, before)


def test_weights_of_a_context():
    colours = np.array([[10, 200]] * 3, np.uint8).reshape(3, 1, 2)
    assert ColourContext(colours, np.array([3.0, 1.0])).mean_grey() == 58  # 57.5, rounded up
    assert ColourContext(colours, np.array([1.0, 0.0])).mean_grey() == 10


def test_grey_is_torchvisions_to_the_bit(image):
    pixels = planes(image)
    make_grey(pixels)
    expected = F.rgb_to_grayscale(image, num_output_channels=3)
    np.testing.assert_array_equal(pixels, planes(expected))


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.3, 2.0])
def test_few_taps_blur_as_39_do(image, sigma):
    pixels = planes(image)
    radius = blur_radius(sigma, 19)
    assert radius <= 8
    expected = [
        ndimage.gaussian_filter(plane.astype(float), sigma, mode="mirror", radius=19)
        for plane in pixels
    ]
    assert np.abs(gaussian_blur(pixels, sigma, radius) - np.stack(expected)).max() < 0.52


def test_radius_of_a_blur_has_a_limit():
    assert blur_radius(0.1, 19) == 1
    assert blur_radius(2.0, 3) == 3


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2)])
def test_blur_of_less_than_its_radius(size):
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8)
    expected = [
        ndimage.gaussian_filter(plane.astype(float), 2.0, mode="mirror", radius=8)
        for plane in pixels
    ]
    assert np.abs(gaussian_blur(pixels, 2.0, 8) - np.stack(expected)).max() < 0.52


def test_white_stays_white():
    white = np.full((3, 9, 9), 255, np.uint8)
    assert (gaussian_blur(white, 1.7, 7) == 255).all()


def test_input_is_checked():
    pixels = np.zeros((3, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="float64"):
        make_grey(pixels.astype(float))
    with pytest.raises(ValueError, match="contiguous"):
        make_grey(pixels[:, :, ::2])
    with pytest.raises(ValueError, match="sigma > 0"):
        gaussian_blur(pixels, 0.0, 1)
    with pytest.raises(ValueError, match="each of the four"):
        ColourJitter(order=("hue",) * 4, **NOTHING)
    with pytest.raises(ValueError, match="contrast must be at least 0"):
        ColourJitter(order=ORDER, **(NOTHING | {"contrast": -1.0}))
    with pytest.raises(ValueError, match="hue must be within"):
        ColourJitter(order=ORDER, **(NOTHING | {"hue": 0.6}))
