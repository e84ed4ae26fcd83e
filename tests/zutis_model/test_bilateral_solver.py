import hashlib
import zlib

import numpy as np
import pytest
import skimage.data

from zutis_model.bilateral_solver import refine_mask

IMAGES = ("astronaut", "coffee", "chelsea", "rocket")
EDGE_CASES = ("all_zero", "all_one", "large", "two_boxes")


def target_mask(name, h, w):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    cy, cx = h * rng.uniform(0.4, 0.6), w * rng.uniform(0.4, 0.6)
    ry, rx = h * rng.uniform(0.25, 0.35), w * rng.uniform(0.25, 0.35)
    y, x = np.arange(h)[:, None], np.arange(w)[None, :]
    inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1.0
    return (inside ^ (rng.random((h, w)) < 0.08)).astype(np.uint8)


def edge_target(case, h, w):
    target = np.zeros((h, w), dtype=np.uint8)
    if case == "all_one":
        target[:] = 1
    elif case == "large":
        target[:, w // 4 :] = 1
    elif case == "two_boxes":
        target[40:140, 40:200] = 1
        target[180:260, 280:420] = 1
        target[70:110, 90:150] = 0
    return target


def assert_agrees(soft, arrays, tag):
    half = np.unpackbits(arrays[f"{tag}_soft_gt_half_packed"], count=soft.size)
    assert soft.dtype == np.float64
    np.testing.assert_allclose(soft[::4, ::4], arrays[f"{tag}_soft_every4"], rtol=0, atol=1e-6)
    assert np.count_nonzero((soft > 0.5) != half.reshape(soft.shape)) <= 5


@pytest.mark.parametrize("name", IMAGES)
def test_agrees_with_the_reference(name, parity_arrays, parity_json):
    image = getattr(skimage.data, name)()
    (facts,) = [i for i in parity_json("bilateral")["images"] if i["name"] == name]
    if hashlib.sha256(image.tobytes()).hexdigest() != facts["image_sha256"]:
        pytest.skip("another JPEG decoder")
    target = target_mask(name, *image.shape[:2])
    assert hashlib.sha256(target.tobytes()).hexdigest() == facts["target_sha256"]

    assert_agrees(refine_mask(image, target), parity_arrays("bilateral"), name)


@pytest.mark.parametrize("case", EDGE_CASES)
def test_agrees_in_edge_cases(case, parity_arrays):
    image = skimage.data.chelsea()
    soft = refine_mask(image, edge_target(case, *image.shape[:2]))
    assert_agrees(soft, parity_arrays("bilateral"), f"edge_{case}")


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 5), (2, 2), (17, 33)])
@pytest.mark.parametrize("colour", ["noise", "constant", "black", "white"])
def test_tiny_and_flat_images(shape, colour):
    rng = np.random.default_rng(0)
    fill = {"constant": (90, 128, 200), "black": 0, "white": 255}
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    if colour != "noise":
        image[:] = fill[colour]
    for target in (np.zeros(shape), np.ones(shape), rng.random(shape) < 0.5):
        soft = refine_mask(image, target)
        assert soft.shape == shape
        assert np.isfinite(soft).all()
    np.testing.assert_allclose(refine_mask(image, np.ones(shape)), 1.0, atol=1e-9)
    np.testing.assert_array_equal(refine_mask(image, np.zeros(shape)), 0.0)


def test_type_of_the_target_does_not_matter():
    image = skimage.data.chelsea()[:80, :100]
    target = target_mask("chelsea", 80, 100)
    soft = refine_mask(image, target)
    for other in (target.astype(bool), target.astype(np.float32), np.asfortranarray(target)):
        np.testing.assert_array_equal(refine_mask(image, other), soft)


def test_snaps_to_an_edge():
    image = np.full((64, 64, 3), 40, dtype=np.uint8)
    image[:, 30:] = 210
    target = np.zeros((64, 64), dtype=bool)
    target[:, 34:] = True  # off by four columns
    refined = refine_mask(image, target) > 0.5
    np.testing.assert_array_equal(refined, image[..., 0] > 100)


@pytest.mark.parametrize(
    ("image", "target", "options", "message"),
    [
        (np.zeros((2, 2, 3)), np.zeros((2, 2)), {}, "uint8"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2)), {}, "image"),
        (np.zeros((0, 2, 3), np.uint8), np.zeros((0, 2)), {}, "image"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3)), {}, "differ"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), {"sigma_luma": 0}, "sigma_luma"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), {"confidence": 0}, "confidence"),
    ],
)
def test_wrong_inputs_are_refused(image, target, options, message):
    with pytest.raises(ValueError, match=message):
        refine_mask(image, target, **options)
