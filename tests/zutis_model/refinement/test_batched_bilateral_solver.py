import numpy as np
import pytest
import skimage.data
import torch

from tests.support.networks.network_input import as_pixels
from tests.support.networks.solver_targets import EDGE_CASES, edge_target
from zutis_model.refinement.batched_bilateral_solver import refine_masks_batched
from zutis_model.refinement.bilateral_solver import refine_mask


@pytest.fixture(scope="module")
def batch(make_image):
    """Four images that differ much in vertices and in iterations, with their targets."""
    images = [make_image(seed, 70, 93) for seed in (1, 2)]
    images += [np.full((70, 93, 3), 77, dtype=np.uint8), images[0] // 4]
    rng = np.random.default_rng(0)
    targets = [rng.random((70, 93)) < 0.3, np.zeros((70, 93)), rng.random((70, 93))]
    targets.append(np.arange(93)[None, :].repeat(70, axis=0) > 40)
    return as_pixels(*images), torch.from_numpy(np.stack(targets, dtype=np.float64))


def test_agrees_with_the_reference(parity_arrays):
    """The edge cases, all in one batch, of which each ends at another iteration."""
    arrays = parity_arrays("bilateral")
    image = skimage.data.chelsea()
    targets = np.stack([edge_target(case, *image.shape[:2]) for case in EDGE_CASES])
    soft = refine_masks_batched(as_pixels(*[image] * 4), torch.from_numpy(targets)).numpy()
    assert soft.dtype == np.float64
    for case, ours in zip(EDGE_CASES, soft, strict=True):
        expected = arrays[f"edge_{case}_soft_every4"]
        np.testing.assert_allclose(ours[::4, ::4], expected, rtol=0, atol=1e-6)
        half = np.unpackbits(arrays[f"edge_{case}_soft_gt_half_packed"], count=ours.size)
        assert np.count_nonzero((ours > 0.5) != half.reshape(ours.shape)) <= 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_iterations": 200},
        {"max_iterations": 0},
        {"sigma_spatial": 0.7, "sigma_luma": 5.0, "sigma_chroma": 3.3},
        {"sigma_spatial": 50.0, "sigma_luma": 300.0, "smoothness": 4.0, "confidence": 0.1},
    ],
)
def test_agrees_with_the_solver_for_single_images(batch, options):
    images, targets = batch
    soft = refine_masks_batched(images, targets, **options).numpy()
    for image, target, ours in zip(images, targets, soft, strict=True):
        expected = refine_mask(image.permute(1, 2, 0).numpy(), target.numpy(), **options)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10)


def test_an_image_does_not_depend_on_its_company(batch):
    images, targets = batch
    together = refine_masks_batched(images, targets)
    for i in range(len(images)):
        alone = refine_masks_batched(images[i : i + 1], targets[i : i + 1])
        assert torch.equal(alone[0], together[i])


def test_same_call_gives_the_same_bits(batch):
    assert torch.equal(refine_masks_batched(*batch), refine_masks_batched(*batch))


def test_float32_is_close(batch):
    soft = refine_masks_batched(*batch, dtype=torch.float32)
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft.double(), refine_masks_batched(*batch), rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (17, 33)])
def test_tiny_images_and_all_types_of_targets(shape, make_image):
    images = as_pixels(make_image(3, *shape), make_image(4, *shape))
    target = torch.zeros(2, *shape, dtype=torch.bool)
    target[0] = True
    soft = refine_masks_batched(images, target)
    torch.testing.assert_close(soft[0], torch.ones(shape, dtype=torch.float64))
    assert not soft[1].any()
    for dtype in (torch.uint8, torch.int64, torch.float16, torch.float32):
        assert torch.equal(refine_masks_batched(images, target.to(dtype)), soft)


IMAGE = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
TARGET = torch.zeros(1, 2, 2)


@pytest.mark.parametrize(
    ("image", "target", "options", "message"),
    [
        (IMAGE.float(), TARGET, {}, "uint8"),
        (IMAGE[:, :2], TARGET, {}, "images"),
        (IMAGE[:0], TARGET[:0], {}, "no pixel"),
        (IMAGE, torch.zeros(1, 2, 3), {}, "differ"),
        (IMAGE, TARGET * torch.nan, {}, "finite"),
        (IMAGE, TARGET * 1j, {}, "real"),
        (IMAGE, TARGET.to("meta"), {}, "meta"),
        (IMAGE, TARGET, {"dtype": torch.bfloat16}, "dtype"),
        (IMAGE, TARGET, {"sigma_luma": 0.0}, "sigma_luma"),
    ],
)
def test_wrong_inputs_are_refused(image, target, options, message):
    with pytest.raises(ValueError, match=message):
        refine_masks_batched(image, target, **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_and_repeats_itself(batch):
    images, targets = (tensor.cuda() for tensor in batch)
    soft = refine_masks_batched(images, targets)
    torch.testing.assert_close(soft.cpu(), refine_masks_batched(*batch), rtol=0, atol=1e-6)
    assert torch.equal(soft, refine_masks_batched(images, targets))
