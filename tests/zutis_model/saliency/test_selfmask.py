import copy
import hashlib

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.networks.network_input import as_input
from zutis_model.layers.normalisation import denormalise
from zutis_model.refinement.bilateral_solver import refine_mask
from zutis_model.saliency.selfmask import _uncovered, load_selfmask

TAGS = ("s1101_224x224", "s1102_240x320", "s1103_250x203")


@pytest.fixture(scope="module", params=TAGS)
def case(request, parity_json, parity_arrays, make_image):
    """One image and what the reference says of it."""
    (facts,) = [c for c in parity_json("selfmask") if c["tag"] == request.param]
    image = make_image(facts["seed"], facts["h"], facts["w"])
    assert hashlib.sha256(image.tobytes()).hexdigest() == facts["image_sha256"]
    prefix = f"{request.param}_"
    arrays = {
        name.removeprefix(prefix): array
        for name, array in parity_arrays("selfmask").items()
        if name.startswith(prefix)
    }
    for name in ("dts", "dts_bi"):
        bits = np.unpackbits(arrays[f"{name}_packed"], count=image[..., 0].size)
        arrays[name] = bits.reshape(image.shape[:2]).astype(bool)
    return image, arrays, facts


def test_state_dict_is_that_of_the_published_checkpoint(selfmask, parity_json):
    actual = [
        [name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in selfmask.state_dict().items()
    ]
    assert sorted(actual) == sorted(parity_json("selfmask_state_dict"))


def test_network_agrees_with_the_reference(case, selfmask):
    image, expected, facts = case
    with torch.inference_mode():
        tokens = selfmask.encode(as_input(image)).flatten(1, 2)[0, ::64]
        output = selfmask(as_input(image))

    np.testing.assert_allclose(tokens, expected["encoder_tokens_every64"], rtol=0, atol=5e-5)
    np.testing.assert_allclose(output.mask_pred, expected["mask_pred"][:, 0], rtol=0, atol=2e-4)
    objectness = expected["objectness"][:, 0, :, 0]
    np.testing.assert_allclose(output.objectness, objectness, rtol=0, atol=1e-5)
    assert output.objectness.argmax() == facts["best_query"]


def test_prediction_agrees_with_the_reference(case, selfmask):
    image, expected, facts = case
    soft, objectness = selfmask.predict(as_input(image))

    assert soft.dtype == objectness.dtype == torch.float32
    assert soft.shape == (1, *image.shape[:2])
    mask = (soft[0] > 0.5).numpy()
    assert np.count_nonzero(mask != expected["dts"]) <= 10
    assert objectness.item() == pytest.approx(facts["objectness_top2"][0], abs=1e-5)

    refined = refine_mask(image, mask) > 0.5
    assert np.mean(refined != expected["dts_bi"]) <= 1e-3


def test_refinement_of_the_image_that_the_reference_refines_is_equal(case):
    """The one recovered from the network's input; refining the original differs in some pixels."""
    image, expected, facts = case
    recovered = denormalise(as_input(image))[0].permute(1, 2, 0).numpy()
    changed = np.mean((recovered != image).any(axis=2))
    assert np.mean(recovered != image) == pytest.approx(facts["roundtrip_image_pixels_changed"])
    assert changed > 0

    refined = refine_mask(recovered, expected["dts"]) > 0.5
    assert np.count_nonzero(refined != expected["dts_bi"]) == 0
    of_original = refine_mask(image, expected["dts"]) > 0.5
    differing = facts["dts_bi_pixels_differing_if_original_uint8_image_is_used"]
    assert np.count_nonzero(of_original != expected["dts_bi"]) == differing


def test_prediction_is_the_best_of_all_queries(selfmask, make_image):
    images = as_input(make_image(1, 50, 61), make_image(2, 50, 61))
    output = selfmask(images)
    soft, objectness = selfmask.predict(images)
    upsampled = torch.nn.functional.interpolate(output.mask_pred, scale_factor=4, mode="bilinear")
    for i, best in enumerate(output.objectness.argmax(dim=1)):
        torch.testing.assert_close(soft[i], upsampled[i, best, :50, :61], atol=1e-5, rtol=0)
        assert objectness[i] == pytest.approx(output.objectness[i, best].item(), abs=1e-6)


def test_batch_equals_singles(selfmask, make_image):
    images = as_input(make_image(1, 75, 90), make_image(2, 75, 90))
    soft, objectness = selfmask.predict(images)
    for i in range(2):
        single_soft, single_objectness = selfmask.predict(images[i : i + 1])
        torch.testing.assert_close(soft[i], single_soft[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(objectness[i], single_objectness[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (9, 64), (1, 100)])
def test_tiny_images(size, selfmask, make_image):
    soft, objectness = selfmask.predict(as_input(make_image(0, *size)))
    assert soft.shape == (1, *size)
    assert torch.isfinite(soft).all()
    assert 0 <= soft.min() <= soft.max() <= 1
    assert 0 <= objectness.item() <= 1


def test_no_images(selfmask):
    soft, objectness = selfmask.predict(torch.zeros(0, 3, 20, 30))
    assert soft.shape == (0, 20, 30)
    assert objectness.shape == (0,)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 16, 16), r"\[b, 3, h, w\], got \[3, 16, 16\]"),
        (torch.zeros(1, 1, 16, 16), r"\[b, 3, h, w\], got \[1, 1, 16, 16\]"),
        (torch.zeros(1, 16, 16, 3), r"\[b, 3, h, w\], got \[1, 16, 16, 3\]"),
        (torch.zeros(1, 3, 0, 16), r"\[b, 3, h, w\], got \[1, 3, 0, 16\]"),
        (torch.zeros(1, 3, 16, 0), r"\[b, 3, h, w\], got \[1, 3, 16, 0\]"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "normalised floats, got torch.uint8"),
        (torch.full((1, 3, 16, 16), torch.nan), "NaN or infinite"),
        (torch.full((1, 3, 16, 16), -torch.inf), "NaN or infinite"),
        ([torch.zeros(3, 16, 16), torch.zeros(3, 16, 24)], "got list; images of different sizes"),
        (np.zeros((1, 3, 16, 16), dtype=np.float32), "got ndarray"),
    ],
)
def test_bad_images_are_refused(images, message, selfmask):
    with pytest.raises(ValueError, match=message):
        selfmask.predict(images)
    with torch.inference_mode(), pytest.raises(ValueError, match=message):
        selfmask(images)


def test_one_bad_pixel_is_enough(selfmask, make_image):
    images = as_input(make_image(1, 20, 30), make_image(2, 20, 30))
    images[1, 2, 19, 29] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        selfmask.predict(images)


class LargestOutput(TorchDispatchMode):
    """Notes how many elements the largest result of any operation has."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = (leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        self.numel = max(self.numel, *sizes, 0)
        return result


def test_memory_does_not_grow_with_queries_times_pixels(selfmask, make_image):
    height, width = 96, 128
    images = as_input(make_image(1, height, width))
    largest = {}
    network = copy.deepcopy(selfmask)
    for num_queries in (10, 100):
        network.query_embed = torch.nn.Parameter(torch.randn(num_queries, 384))
        with LargestOutput() as of_predict:
            network.predict(images)
        with torch.inference_mode(), LargestOutput() as of_forward:
            network(images)
        largest[num_queries] = (of_predict.numel, of_forward.numel)
    # An operation's largest result: the position embedding's.
    assert largest[100] == largest[10]
    assert max(largest[100]) < 100 * height * width


def test_tokens_may_go_through_perceptrons_in_parts(selfmask, make_image, monkeypatch):
    images = as_input(make_image(1, 40, 50), make_image(2, 40, 50))
    expected = selfmask.encode(images)
    monkeypatch.setattr("zutis_model.saliency.selfmask._ROWS_AT_ONCE", 20)  # of 2 x 36
    torch.testing.assert_close(selfmask.encode(images), expected, atol=2e-5, rtol=0)


def test_gradients_reach_every_parameter(make_image, monkeypatch):
    monkeypatch.setattr("zutis_model.saliency.selfmask._ROWS_AT_ONCE", 20)
    network = load_selfmask(num_queries=3).train().requires_grad_(True)
    output = network(as_input(make_image(1, 40, 50)))
    (output.mask_pred.mean() + output.objectness.mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_bfloat16_is_close(make_image):
    images = as_input(make_image(1101, 96, 96))
    exact, _ = load_selfmask().predict(images)
    network = load_selfmask(precision="bfloat16")
    soft, objectness = network.predict(images)
    output = network(images)
    assert soft.dtype == objectness.dtype == torch.float32
    assert output.mask_logits.dtype == output.objectness_logits.dtype == torch.float32
    assert ((soft > 0.5) == (exact > 0.5)).float().mean() > 0.9


def test_checkpoint_decides_the_number_of_queries():
    ten = load_selfmask(num_queries=10, seed=3)
    loaded = load_selfmask(ten.state_dict(), num_queries=20)
    assert loaded.query_embed.shape == (10, 384)
    assert not loaded.training
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, ten.state_dict()[name])


def test_seeds_differ(selfmask, make_image):
    images = as_input(make_image(1, 64, 64))
    other, _ = load_selfmask(seed=1).predict(images)
    assert not torch.equal(other, selfmask.predict(images)[0])


def test_another_models_checkpoint_is_refused(selfmask):
    with pytest.raises(ValueError, match=r"SelfMask.*query_embed.*visual\.proj"):
        load_selfmask({"visual.proj": torch.zeros(768, 512)})
    missing = dict(selfmask.state_dict())
    del missing["encoder.norm.bias"]
    with pytest.raises(ValueError, match=r"1 missing \(encoder\.norm\.bias\)"):
        load_selfmask(missing)
    with pytest.raises(ValueError, match="precision"):
        load_selfmask(precision="float16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu_agrees(precision, selfmask, make_image):
    images = as_input(make_image(1102, 240, 320))
    network = load_selfmask(device="cuda", precision=precision)
    soft, _ = network.predict(images.cuda())
    expected, _ = selfmask.predict(images)
    assert ((soft.cpu() > 0.5) == (expected > 0.5)).float().mean() > 0.98


def test_several_masks_begin_with_the_best_and_cover_each_other_little(selfmask, make_image):
    images = as_input(make_image(1, 52, 76), make_image(2, 52, 76))
    best, objectness = selfmask.predict(images)
    for number, (soft, scores) in enumerate(selfmask.predict_several(images)):
        assert soft.shape[1:] == (52, 76)
        assert len(soft) == len(scores) >= 1
        torch.testing.assert_close(soft[0], best[number], atol=1e-5, rtol=0)
        torch.testing.assert_close(scores[0], objectness[number])
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        assert scores[-1] >= 0.5 * scores[0]


def test_a_query_that_a_better_one_covers_is_left_out_and_so_is_an_unlikely_one():
    logits = torch.full((4, 6, 6), -5.0)
    logits[0, :, :3] = 5.0
    logits[1, :, :3] = 4.0  # the same mask, less likely
    logits[2, :2, 3:] = 5.0
    logits[3, 4:, 3:] = 5.0
    scores = torch.tensor([2.0, 1.0, 3.0, -4.0])
    assert _uncovered(logits, scores) == [2, 0]
