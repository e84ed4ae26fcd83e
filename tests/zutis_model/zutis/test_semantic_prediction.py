import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode

from zutis_model.zutis import semantic_prediction
from zutis_model.zutis.semantic_prediction import semantic_labels, semantic_logits, upsampled_strips

SIZE = (93, 131)  # of the fixture's results with a size


def unit_tokens(*shape, seed=0):
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(tokens, dim=-1)


class LargestResult(TorchDispatchMode):
    """Remembers the largest number of values that an operation gave, of any type and of float."""

    values = floats = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, (tuple, list)) else (results,):
            if isinstance(result, torch.Tensor):
                self.values = max(self.values, result.numel())
                if result.is_floating_point():
                    self.floats = max(self.floats, result.numel())
        return results


@pytest.fixture(scope="module")
def fixture(parity_arrays):
    return {name: torch.from_numpy(array) for name, array in parity_arrays("predict").items()}


def test_logits_agree_with_the_reference(fixture):
    tokens, text = fixture["patch_tokens"], fixture["text_embeddings"]
    low = semantic_logits(tokens, text)
    full = semantic_logits(tokens, text, SIZE)

    assert low.dtype == full.dtype == torch.float32
    assert full.shape == (2, 6, *SIZE)
    torch.testing.assert_close(low, fixture["semantic_low_logits"], rtol=0, atol=1e-5)
    expected = fixture["semantic_full_logits_every4"]
    torch.testing.assert_close(full[..., ::4, ::4], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "name"), [(None, "low"), (SIZE, "full")])
def test_labels_agree_with_the_reference(size, name, fixture):
    labels = semantic_labels(fixture["patch_tokens"], fixture["text_embeddings"], size)
    assert labels.dtype == torch.int64
    assert (labels != fixture[f"semantic_{name}_labels"]).float().mean() <= 1e-3


@pytest.mark.parametrize("logits_at_once", [1, 5000, 13000, 10**9])
@pytest.mark.parametrize("size", [None, (61, 40), (3, 5)])
def test_labels_are_those_of_the_largest_logits(size, logits_at_once, monkeypatch):
    monkeypatch.setattr(semantic_prediction, "_LOGITS_AT_ONCE", logits_at_once)
    tokens, text = unit_tokens(2, 11, 7, 16), unit_tokens(37, 16, seed=1)
    expected = semantic_logits(tokens, text, size).argmax(dim=1)
    assert torch.equal(semantic_labels(tokens, text, size), expected)


@pytest.mark.parametrize("logits_at_once", [1, 10**9])
def test_the_first_of_equal_categories_wins(logits_at_once, monkeypatch):
    monkeypatch.setattr(semantic_prediction, "_LOGITS_AT_ONCE", logits_at_once)
    # Ones and zeros, so that equal categories are equal in every bit.
    text = torch.eye(3).repeat(4, 1)
    tokens = torch.eye(3)[torch.randint(3, (1, 6, 6))]
    labels = semantic_labels(tokens, text, (20, 20))
    assert labels.unique().tolist() == [0, 1, 2]


def test_labels_never_hold_the_maps_of_all_categories():
    tokens, text = unit_tokens(1, 16, 16, 8), unit_tokens(920, 8, seed=1)
    with LargestResult() as largest:
        labels = semantic_labels(tokens, text, (256, 256))
    assert labels.max() > 255  # categories beyond the first chunk are found
    assert largest.values <= 2**23 < 920 * 256 * 256


def test_results_are_upsampled_between_token_centres():
    # Two tokens, of category 0 and 1: at four times the width the edge stays in the middle, and
    # the outer halves of the outer tokens are constant.
    tokens = torch.eye(2)[None, None]  # [1, 1, 2, 2]
    logits = semantic_logits(tokens, torch.eye(2), (1, 8))
    expected = [1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0]
    np.testing.assert_allclose(logits[0, 0, 0], expected, atol=1e-6)
    labels = semantic_labels(tokens, torch.eye(2), (1, 8))
    assert labels.tolist() == [[[0, 0, 0, 0, 1, 1, 1, 1]]]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 50)])
def test_sizes_below_the_grid(size):
    tokens, text = unit_tokens(1, 9, 12, 8), unit_tokens(4, 8, seed=1)
    assert semantic_logits(tokens, text, size).shape == (1, 4, *size)
    assert semantic_labels(tokens, text, size).shape == (1, *size)


def test_one_category_is_everywhere():
    assert not semantic_labels(unit_tokens(2, 3, 3, 8), unit_tokens(1, 8), (5, 5)).any()


def test_empty_batch():
    assert semantic_labels(unit_tokens(0, 3, 3, 8), unit_tokens(4, 8)).shape == (0, 3, 3)
    assert semantic_labels(unit_tokens(0, 3, 3, 8), unit_tokens(4, 8), (6, 7)).shape == (0, 6, 7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_computed_in_float32(dtype):
    tokens, text = unit_tokens(1, 5, 5, 64).to(dtype), unit_tokens(9, 64, seed=1).to(dtype)
    logits = semantic_logits(tokens, text, (9, 9))
    assert logits.dtype == torch.float32
    assert torch.equal(logits, semantic_logits(tokens.float(), text.float(), (9, 9)))


def test_autocast_around_it_changes_nothing():
    tokens, text = unit_tokens(1, 5, 5, 64), unit_tokens(9, 64, seed=1)
    expected = semantic_logits(tokens, text, (9, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(semantic_logits(tokens, text, (9, 9)), expected)


def test_results_have_no_gradient():
    tokens = unit_tokens(1, 3, 3, 8).requires_grad_()
    assert not semantic_logits(tokens, unit_tokens(4, 8)).requires_grad


@pytest.mark.parametrize("predict", [semantic_logits, semantic_labels])
def test_bad_input_is_refused(predict):
    tokens, text = unit_tokens(1, 3, 3, 8), unit_tokens(4, 8)
    with pytest.raises(ValueError, match=r"text_embeddings are 9 wide, patch_tokens 8"):
        predict(tokens, unit_tokens(4, 9))
    with pytest.raises(ValueError, match="a row for each category, got none"):
        predict(tokens, text[:0])
    with pytest.raises(ValueError, match=r"patch_tokens .*\[3, 3, 8\]"):
        predict(tokens[0], text)
    with pytest.raises(ValueError, match=r"text_embeddings must be float .*int64"):
        predict(tokens, text.long())
    with pytest.raises(ValueError, match="patch_tokens must have a pixel"):
        predict(tokens[:, :0], text)
    for size in [(0, 5), (5, -1), (5,)]:
        with pytest.raises(ValueError, match="size"):
            predict(tokens, text, size)
    for bad in (float("nan"), float("inf")):
        tokens_with_bad, text_with_bad = tokens.clone(), text.clone()
        tokens_with_bad[0, 1, 1, 0] = text_with_bad[3, 2] = bad
        with pytest.raises(ValueError, match="patch_tokens must be finite"):
            predict(tokens_with_bad, text)
        with pytest.raises(ValueError, match="text_embeddings must be finite"):
            predict(tokens, text_with_bad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees(fixture):
    tokens, text = fixture["patch_tokens"].cuda(), fixture["text_embeddings"].cuda()
    labels = semantic_labels(tokens, text, SIZE)
    assert labels.is_cuda
    assert (labels.cpu() != fixture["semantic_full_labels"]).float().mean() <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("size", [(300, 257), (128, 1000), (640, 128)])
@pytest.mark.parametrize("logits_at_once", [1, 5000, 50_000])
def test_labels_of_large_images_are_found_in_strips(size, logits_at_once, monkeypatch):
    tokens, text = unit_tokens(2, 9, 7, 8), unit_tokens(11, 8, seed=1)
    expected = semantic_logits(tokens, text, size)
    monkeypatch.setattr(semantic_prediction, "_LOGITS_AT_ONCE", logits_at_once)
    labels = semantic_labels(tokens, text, size, dtype=torch.int16)
    assert labels.dtype == torch.int16
    assert torch.equal(labels.long(), expected.argmax(dim=1))
    for columns, maps in upsampled_strips(semantic_logits(tokens, text), size):
        assert torch.equal(torch.stack(list(maps), dim=1), expected[..., columns])  # every bit


def test_no_map_of_a_large_image_is_held_whole():
    tokens, text = unit_tokens(1, 16, 16, 8), unit_tokens(3, 8, seed=1)
    with LargestResult() as largest:
        labels = semantic_labels(tokens, text, (3000, 4000))
    assert labels.shape == (1, 3000, 4000)
    assert largest.floats <= 2**23 < 3000 * 4000
