import itertools

import numpy as np
import pytest
import torch

from zutis_model.baselines.cosegmentation import cosegment
from zutis_model.baselines.reco import BACKGROUND, Reco


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_unit(*shape, seed=0):
    return torch.nn.functional.normalize(random(*shape, seed=seed), dim=-1)


@pytest.fixture
def reco():
    return Reco(random_unit(5, 16, seed=1), random_unit(5, 8, seed=2))


@pytest.fixture
def inputs():
    """Features and CLIP features of two images, of different grids."""
    return 3 * random(2, 4, 5, 16, seed=3), 5 * random(2, 3, 2, 8, seed=4)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def resize(grid, size):
    """Bilinear, corners not aligned, of one [rows, columns] array: from the definition."""

    def matrix(old, new):
        m = np.zeros((new, old))
        for i in range(new):
            place = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
            low = int(place)
            high = min(low + 1, old - 1)
            m[i, low] += 1 - (place - low)
            m[i, high] += place - low
        return m

    return matrix(grid.shape[0], size[0]) @ grid @ matrix(grid.shape[1], size[1]).T


def direct_scores(reco, features, tokens, size):
    scores = np.zeros((len(features), len(reco.reference_embeddings), *size))
    for b, k in itertools.product(range(scores.shape[0]), range(scores.shape[1])):
        cosine = (features[b] @ reco.reference_embeddings[k]) / features[b].norm(dim=-1)
        scores[b, k] = resize(sigmoid(cosine.double().numpy()), size)
        if tokens is not None:
            cosine = (tokens[b] @ reco.text_embeddings[k]) / tokens[b].norm(dim=-1)
            scores[b, k] *= resize(sigmoid(10 * cosine.double().numpy()), size)
    return scores


def test_scores_agree_with_the_direct_computation(reco, inputs):
    features, tokens = inputs
    scores = reco.scores(features, (13, 11), tokens)
    assert scores.shape == (2, 5, 13, 11)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(
        scores, direct_scores(reco, features, tokens, (13, 11)), rtol=0, atol=1e-6
    )

    image_only = Reco(reco.reference_embeddings)
    np.testing.assert_allclose(
        image_only.scores(features, (3, 20)),
        direct_scores(image_only, features, None, (3, 20)),
        rtol=0,
        atol=1e-6,
    )


def test_labels_are_the_best_scores(reco, inputs):
    features, tokens = inputs
    scores = reco.scores(features, (13, 11), tokens)
    labels = reco.labels(features, (13, 11), tokens)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, scores.argmax(dim=1))
    assert len(labels.unique()) > 1

    threshold = scores.amax(dim=1).median().item()
    expected = labels.masked_fill(scores.amax(dim=1) < threshold, BACKGROUND)
    found = reco.labels(features, (13, 11), tokens, threshold=threshold)
    assert torch.equal(found, expected)
    assert (found == BACKGROUND).any()
    assert (found != BACKGROUND).any()


@pytest.mark.parametrize("k", [1, 16, 17, 40])
def test_labels_of_any_number_of_categories(k, inputs):
    features, tokens = inputs
    reco = Reco(random_unit(k, 16, seed=5), random_unit(k, 8, seed=6))
    expected = reco.scores(features, (9, 9), tokens).argmax(dim=1)
    assert torch.equal(reco.labels(features, (9, 9), tokens), expected)


def test_equal_scores_go_to_the_lowest_category():
    reco = Reco(random_unit(40, 16))
    labels = reco.labels(torch.zeros(1, 3, 3, 16), (6, 6))  # all scores are sigmoid(0)
    assert torch.equal(labels, torch.zeros_like(labels))


def test_masks_are_stretched_scores(reco, inputs):
    features, tokens = inputs
    scores, masks = reco.scores(features, (12, 10), tokens), reco.masks(features, (12, 10), tokens)
    assert masks.dtype == torch.float32
    assert masks.amin(dim=(2, 3)).eq(0).all()
    assert masks.amax(dim=(2, 3)).eq(1).all()
    for b, k in itertools.product(range(2), range(5)):
        low, high = scores[b, k].min(), scores[b, k].max()
        torch.testing.assert_close(low + (high - low) * masks[b, k], scores[b, k])


def test_flat_mask_is_zero():
    masks = Reco(random_unit(2, 16)).masks(torch.zeros(1, 3, 3, 16), (8, 8))
    assert torch.equal(masks, torch.zeros(1, 2, 8, 8))


def test_batch_equals_singles(reco, inputs):
    features, tokens = inputs
    batch = reco.scores(features, (7, 9), tokens)
    for i in range(2):
        single = reco.scores(features[i : i + 1], (7, 9), tokens[i : i + 1])
        torch.testing.assert_close(batch[i], single[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (4, 5), (64, 3)])
def test_sizes(size, reco, inputs):
    features, tokens = inputs
    assert reco.scores(features, size, tokens).shape == (2, 5, *size)
    assert reco.labels(features, size, tokens).shape == (2, *size)
    assert reco.masks(features, size, tokens).shape == (2, 5, *size)


def test_half_precision_features_are_close(reco, inputs):
    features, tokens = inputs
    exact = reco.scores(features, (8, 8), tokens)
    found = reco.scores(features.bfloat16(), (8, 8), tokens.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=2e-2, rtol=0)


def test_zero_features_are_undecided(reco):
    image_only = Reco(reco.reference_embeddings)
    scores = image_only.scores(torch.zeros(1, 2, 2, 16), (4, 4))
    assert torch.equal(scores, torch.full((1, 5, 4, 4), 0.5))


def test_cosegmented_category_is_found_in_another_image():
    pattern, *others = random_unit(4, 64, seed=9)
    retrieved = random(6, 5, 5, 64, seed=10)
    for i in range(6):
        retrieved[i, i % 5, 2] = 8 * pattern + 0.3 * random(64, seed=20 + i)
    embedding = cosegment(retrieved).embedding

    image = 8 * others[0].expand(1, 6, 6, 64) + 0.3 * random(1, 6, 6, 64, seed=30)
    image[0, 1:4, 2:5] = 8 * pattern + 0.3 * random(3, 3, 64, seed=31)
    truth = torch.zeros(1, 6, 6, dtype=torch.bool)
    truth[0, 1:4, 2:5] = True

    reco = Reco(torch.stack([others[0], embedding]))
    assert torch.equal(reco.labels(image, (6, 6)) == 1, truth)
    assert torch.equal(reco.masks(image, (6, 6))[:, 1] > 0.5, truth)


@pytest.mark.parametrize(
    ("references", "texts", "message"),
    [
        (random_unit(16), None, "reference_embeddings must be float with 2"),
        (torch.empty(0, 16), None, "at least one row"),
        (2 * random_unit(3, 16), None, "norm 1"),
        (torch.full((3, 16), float("nan")), None, "norm 1"),
        (random_unit(3, 16), random_unit(2, 8), "3 text_embeddings, got 2"),
        (random_unit(3, 16), 2 * random_unit(3, 8), "text_embeddings must have rows of norm 1"),
    ],
)
def test_bad_embeddings_are_refused(references, texts, message):
    with pytest.raises(ValueError, match=message):
        Reco(references, texts)


@pytest.mark.parametrize("method", ["scores", "labels", "masks"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((random(2, 4, 5, 16), (8, 8)), "needs clip_patch_tokens"),
        (
            (random(2, 4, 5, 15), (8, 8), random(2, 3, 2, 8)),
            r"features must be float \[b, r, c, 16",
        ),
        ((random(4, 5, 16), (8, 8), random(2, 3, 2, 8)), "features"),
        ((torch.full((2, 4, 5, 16), float("nan")), (8, 8), random(2, 3, 2, 8)), "640 infinite"),
        ((random(0, 4, 5, 16), (8, 8), random(0, 3, 2, 8)), "not empty"),
        ((random(2, 4, 5, 16), (0, 8), random(2, 3, 2, 8)), "size"),
        ((random(2, 4, 5, 16), (8, 8), random(1, 3, 2, 8)), "2 images, got 1"),
        ((random(2, 4, 5, 16), (8, 8), random(2, 3, 2, 9)), "equal"),
    ],
)
def test_bad_inputs_are_refused(method, arguments, message, reco):
    with pytest.raises(ValueError, match=message):
        getattr(reco, method)(*arguments)


def test_clip_features_without_texts_are_refused(reco, inputs):
    with pytest.raises(ValueError, match="needs text_embeddings"):
        Reco(reco.reference_embeddings).scores(inputs[0], (8, 8), inputs[1])
