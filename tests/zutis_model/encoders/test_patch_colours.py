from __future__ import annotations

import numpy as np
import pytest

from zutis_model.encoders.patch_colours import patch_colours


def test_means_and_deviations_of_luma():
    """A grey image of two columns of patches: one flat and light, one dark and striped."""
    pixels = np.full((16, 16, 3), 200, dtype=np.uint8)
    pixels[:, 8:] = 60
    pixels[::2, 8:] = 100
    found = patch_colours(pixels, 2, 2)
    assert found.shape == (2, 2, 7)
    assert found.dtype == np.float32
    sign = np.array([[-1, 1], [-1, 1]])
    np.testing.assert_allclose(found[..., 0], -sign, atol=1e-3)  # mean luma, standardised
    np.testing.assert_allclose(found[..., 3], sign, atol=1e-3)  # its deviation
    np.testing.assert_allclose(found[..., [1, 2, 4, 5]], 0, atol=0.05)  # no chroma
    np.testing.assert_array_equal(found[..., 6], 2)


def test_chroma():
    pixels = np.full((8, 16, 3), 128, dtype=np.uint8)
    pixels[:, 8:] = (128, 128, 228)
    found = patch_colours(pixels, 1, 2)
    assert found[0, 1, 1] > 0.9  # bluer
    assert found[0, 0, 1] < -0.9


def test_any_size_and_a_plain_image():
    found = patch_colours(np.full((17, 29, 3), 9, dtype=np.uint8), 5, 7)
    assert found.shape == (5, 7, 7)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("pixels", "rows", "message"),
    [
        (np.zeros((4, 4, 3)), 2, "uint8"),
        (np.zeros((4, 4), dtype=np.uint8), 2, "uint8"),
        (np.zeros((4, 4, 3), dtype=np.uint8), 0, "rows and columns"),
    ],
)
def test_bad_arguments(pixels, rows, message):
    with pytest.raises(ValueError, match=message):
        patch_colours(pixels, rows, 2)
