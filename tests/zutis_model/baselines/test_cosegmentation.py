import itertools

import numpy as np
import pytest
import torch

from zutis_model.baselines.cosegmentation import (
    CONTEXT_CATEGORIES,
    RetrievedFeatures,
    context_weights,
    cosegment,
    cosegment_categories,
    reference_embedding,
    text_attention,
)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_unit(*shape, seed=0):
    return torch.nn.functional.normalize(random(*shape, seed=seed), dim=-1)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def direct_seeds(features, weights=None, columns="paper"):
    """Pixel by pixel, in float64, with the whole matrix of cosines."""
    n, h, w, c = features.shape
    x = features.double().numpy().reshape(n * h * w, c)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    if weights is not None:
        cosines = cosines * weights.double().numpy().reshape(1, -1)
    support = np.zeros((n * h * w, n))
    for i in range(n):
        first = i * h * w
        end = first + h * w
        # The reference adds the start to an end that already includes it.
        stop = end if columns == "paper" else first + end
        support[:, i] = cosines[:, first:stop].max(axis=1)
    index = support.mean(axis=1).reshape(n, h * w).argmax(axis=1)
    return torch.from_numpy(np.stack([index // w, index % w], axis=1))


def direct_embedding(features, seeds):
    mean = sum(features[i, y, x] for i, (y, x) in enumerate(seeds.tolist())) / len(features)
    return mean / mean.norm()


def planted(pattern, n=5, h=6, w=7, c=32, seed=0):
    """Noise images that all show `pattern` (up to a scale) in one place each; and the places."""
    features = random(n, h, w, c, seed=seed)
    places = torch.tensor([(i % h, (3 * i + 1) % w) for i in range(n)])
    for i, (y, x) in enumerate(places.tolist()):
        features[i, y, x] = (1 + i) * pattern
    return features, places


# ---- text attention ----


def test_text_attention_is_the_sigmoid_of_the_scaled_cosine():
    tokens, texts = 3 * random(2, 4, 5, 16), random_unit(3, 16, seed=1)
    attention = text_attention(tokens, texts, (4, 5), temperature=7.0)
    assert attention.shape == (2, 3, 4, 5)
    assert attention.dtype == torch.float32
    for n, k, y, x in itertools.product(range(2), range(3), range(4), range(5)):
        cosine = tokens[n, y, x] @ texts[k] / tokens[n, y, x].norm()
        assert attention[n, k, y, x].item() == pytest.approx(
            1 / (1 + np.exp(-7.0 * cosine.item())), abs=1e-6
        )
    torch.testing.assert_close(
        text_attention(tokens, texts[1], (4, 5), temperature=7.0), attention[:, 1]
    )


def test_text_attention_is_resized_after_the_sigmoid_without_aligned_corners():
    tokens = torch.tensor([[[[1.0, 0.0], [-1.0, 0.0]]]])  # cosines 1 and -1 side by side
    text = torch.tensor([1.0, 0.0])
    high, low = torch.tensor([10.0, -10.0]).sigmoid()
    expected = torch.stack([high, 0.75 * high + 0.25 * low, 0.25 * high + 0.75 * low, low])
    torch.testing.assert_close(text_attention(tokens, text, (1, 4))[0, 0], expected)


def test_text_attention_of_a_zero_feature_is_one_half():
    attention = text_attention(torch.zeros(1, 2, 2, 8), random_unit(8), (2, 2))
    assert torch.equal(attention, torch.full((1, 2, 2), 0.5))


# ---- context weights ----


def test_context_weights_multiply_over_the_contexts():
    features, contexts = 5 * random(2, 3, 4, 8), random_unit(3, 8, seed=1)
    weights = context_weights(features, contexts)
    expected = torch.ones(2, 3, 4)
    for context in contexts:
        cosine = (features @ context) / features.norm(dim=-1)
        expected = expected * (1 - torch.sigmoid(cosine))
    torch.testing.assert_close(weights, expected)
    # A context's scale doesn't matter.
    torch.testing.assert_close(context_weights(features, 9 * contexts), expected)


def test_no_contexts_change_nothing():
    assert torch.equal(context_weights(random(1, 2, 3, 4), torch.empty(0, 4)), torch.ones(1, 2, 3))


# ---- reference embedding ----


@pytest.mark.parametrize("columns", ["paper", "reference"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_seeds_and_embedding_agree_with_the_direct_computation(seed, weighted, columns):
    features = random(5, 3, 4, 6, seed=seed) + 0.3  # few channels: a close contest
    weights = uniform(5, 3, 4, seed=seed + 10) if weighted else None
    found = reference_embedding(features, weights, columns=columns)
    expected_seeds = direct_seeds(features, weights, columns)
    assert torch.equal(found.seeds, expected_seeds)
    assert found.seeds.dtype == torch.int64
    torch.testing.assert_close(found.embedding, direct_embedding(features, expected_seeds))
    assert found.embedding.norm().item() == pytest.approx(1, abs=1e-6)


def test_the_two_meanings_of_columns_differ():
    features, weights = random(5, 3, 4, 6) + 0.3, uniform(5, 3, 4, seed=10)
    paper = reference_embedding(features, weights, columns="paper")
    reference = reference_embedding(features, weights, columns="reference")
    assert not torch.equal(paper.seeds, reference.seeds)
    # One image, or two, leave nothing to mistake.
    for n in (1, 2):
        assert torch.equal(
            reference_embedding(features[:n], weights[:n], columns="paper").seeds,
            reference_embedding(features[:n], weights[:n], columns="reference").seeds,
        )


def test_the_default_gives_the_published_numbers():
    features, weights = random(5, 3, 4, 6) + 0.3, uniform(5, 3, 4, seed=10)
    published = direct_seeds(features, weights, "reference")
    assert not torch.equal(published, direct_seeds(features, weights, "paper"))
    assert torch.equal(reference_embedding(features, weights).seeds, published)
    assert torch.equal(cosegment(features).seeds, direct_seeds(features, None, "reference"))
    retrieved = RetrievedFeatures(features=features)
    found = cosegment_categories(["cat"], lambda name: retrieved, context_categories=())
    assert torch.equal(found["cat"].seeds, direct_seeds(features, None, "reference"))


def test_combinations_of_the_seeds():
    features = random(4, 3, 3, 8)
    found = reference_embedding(features)
    seeds = torch.stack([features[i, y, x] for i, (y, x) in enumerate(found.seeds.tolist())])

    falling = (seeds * torch.tensor([1.0, 0.75, 0.5, 0.25])[:, None]).sum(dim=0)
    weighted = reference_embedding(features, combine="weighted").embedding
    torch.testing.assert_close(weighted, falling / falling.norm())

    cosines = torch.nn.functional.cosine_similarity(seeds[:, None], seeds[None], dim=-1)
    best = seeds[cosines.sum(dim=1).argmax()]
    winner = reference_embedding(features, combine="winner").embedding
    torch.testing.assert_close(winner, best / best.norm())


def test_seed_features_are_combined_at_their_own_length():
    features = torch.zeros(2, 1, 1, 2)
    features[0, 0, 0, 0], features[1, 0, 0, 1] = 3.0, 4.0
    torch.testing.assert_close(reference_embedding(features).embedding, torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("columns", ["paper", "reference"])
def test_block_size_changes_nothing(columns):
    features, weights = random(4, 3, 5, 16), uniform(4, 3, 5)
    expected = reference_embedding(features, weights, columns=columns)
    for block_rows in (1, 15, 16, 59, 60, 10_000):
        found = reference_embedding(features, weights, columns=columns, block_rows=block_rows)
        assert torch.equal(found.seeds, expected.seeds)
        assert torch.equal(found.embedding, expected.embedding)


def test_order_of_the_images_only_permutes_the_seeds():
    features, weights = random(6, 4, 5, 16), uniform(6, 4, 5)
    # The reference's windows hang on the order, the paper's comparison does not.
    expected = reference_embedding(features, weights, columns="paper")
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    found = reference_embedding(features[order], weights[order], columns="paper")
    assert torch.equal(found.seeds, expected.seeds[order])
    torch.testing.assert_close(found.embedding, expected.embedding)


@pytest.mark.parametrize("columns", ["paper", "reference"])
def test_planted_pattern_is_the_seed_of_every_image(columns):
    pattern = random_unit(32, seed=5)
    features, places = planted(pattern)
    found = reference_embedding(features, columns=columns)
    assert torch.equal(found.seeds, places)
    torch.testing.assert_close(found.embedding, pattern)


def test_one_image_gives_its_first_pixel_unless_weights_decide():
    # Every pixel resembles itself perfectly: with nothing to compare with, all support is equal.
    features, weights = random(1, 4, 5, 8), torch.full((1, 4, 5), 0.5)
    assert reference_embedding(features).seeds.tolist() == [[0, 0]]
    weights[0, 2, 3] = 0.9
    assert reference_embedding(features, weights).seeds.tolist() == [[2, 3]]


def test_equal_pixels_go_to_the_lowest_index():
    features = random(1, 1, 1, 24).expand(3, 9, 11, 24).clone()
    for block_rows in (1, 7, 4096):
        found = reference_embedding(features, block_rows=block_rows)
        assert found.seeds.tolist() == [[0, 0]] * 3


def test_zero_features_resemble_nothing():
    features, places = planted(random_unit(32, seed=5))
    features[:, 0, 0] = 0
    features[0, 0, 1] = random_unit(32, seed=5)
    found = reference_embedding(features)
    assert torch.isfinite(found.embedding).all()
    assert torch.equal(found.seeds[1:], places[1:])


def test_image_without_weight_still_has_a_seed():
    features, places = planted(random_unit(32, seed=5))
    weights = torch.ones(features.shape[:3])
    weights[2] = 0
    assert torch.equal(reference_embedding(features, weights).seeds, places)


def test_half_precision_features_are_close():
    features = random(4, 4, 4, 64)
    exact = reference_embedding(features).embedding
    found = reference_embedding(features.bfloat16()).embedding
    assert found.dtype == torch.float32
    assert exact @ found > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": torch.ones(2, 3, 4)}, "features must be float with 4 dimensions"),
        ({"features": torch.ones(2, 3, 4, 5, dtype=torch.int64)}, "int64"),
        ({"features": torch.ones(0, 3, 4, 5)}, "must not be empty"),
        ({"features": torch.full((2, 3, 4, 5), float("nan"))}, "finite"),
        ({"features": torch.zeros(2, 3, 4, 5)}, "add up to zero"),
        ({"weights": torch.ones(2, 4, 3)}, r"\[2, 4, 3\]"),
        ({"weights": torch.full((2, 3, 4), 1.1)}, "0..1"),
        ({"weights": torch.full((2, 3, 4), -0.1)}, "0..1"),
        ({"weights": torch.full((2, 3, 4), float("nan"))}, "nan"),
        ({"weights": torch.zeros(2, 3, 4)}, "zero everywhere"),
        ({"combine": "median"}, "median"),
        ({"columns": "rows"}, "rows"),
        ({"block_rows": 0}, "block_rows"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        reference_embedding(**({"features": random(2, 3, 4, 5)} | arguments))


def test_seeds_that_cancel_out_are_refused():
    with pytest.raises(ValueError, match="add up to zero"):
        reference_embedding(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))


# ---- all of it ----


def test_cosegment_multiplies_the_weights():
    features, tokens = random(3, 4, 5, 8), random(3, 2, 3, 16, seed=1)
    text, contexts = random_unit(16, seed=2), random_unit(2, 8, seed=3)
    attention = text_attention(tokens, text, (4, 5))
    elimination = context_weights(features, contexts)
    for given, weights in (
        ((), None),
        ((tokens, text), attention),
        ((None, None, contexts), elimination),
        ((tokens, text, contexts), attention * elimination),
    ):
        found, expected = cosegment(features, *given), reference_embedding(features, weights)
        assert torch.equal(found.seeds, expected.seeds)
        torch.testing.assert_close(found.embedding, expected.embedding)


def scene(seed=0):
    """Images that share an exact context pattern and a slightly noisy object."""
    context, thing = random_unit(2, 32, seed=7)
    features, context_places = planted(context, seed=seed)
    thing_places = context_places + torch.tensor([0, 1])
    thing_places[:, 1] %= features.shape[2]
    for i, (y, x) in enumerate(thing_places.tolist()):
        features[i, y, x] = thing + 0.05 * random(32, seed=100 + i)
    return features, context, thing, context_places, thing_places


def test_context_elimination_moves_the_seeds_off_the_context():
    features, context, thing, context_places, thing_places = scene()
    before = cosegment(features)
    assert torch.equal(before.seeds, context_places)
    after = cosegment(features, context_embeddings=context[None])
    assert torch.equal(after.seeds, thing_places)
    assert after.embedding @ thing > 0.9 > before.embedding @ thing


def test_text_attention_moves_the_seeds_to_the_category():
    features, _, _, context_places, thing_places = scene()
    text = random_unit(16, seed=1)
    tokens = (-text).expand(*features.shape[:3], 16).clone()
    for i, (y, x) in enumerate(thing_places.tolist()):
        tokens[i, y, x] = text
    assert torch.equal(cosegment(features).seeds, context_places)
    assert torch.equal(cosegment(features, tokens, text).seeds, thing_places)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_patch_tokens": random(2, 3, 4, 5)}, "together"),
        ({"text_embedding": random(5)}, "together"),
        ({"clip_patch_tokens": random(3, 3, 4, 5), "text_embedding": random(5)}, "2 images"),
        ({"clip_patch_tokens": random(2, 3, 4, 5), "text_embedding": random(1, 5)}, r"\[1, 5\]"),
        ({"clip_patch_tokens": random(2, 3, 4, 5), "text_embedding": random(6)}, "equal"),
        ({"context_embeddings": random(1, 9)}, "equal"),
        ({"context_embeddings": random(8)}, "2 dimensions"),
    ],
)
def test_bad_input_to_cosegment_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cosegment(random(2, 3, 4, 8), **arguments)


class FakeRetrieval:
    """Random features for a name, and the names that were asked for."""

    def __init__(self):
        self.names = []

    def __call__(self, name):
        self.names.append(name)
        return self.features(name)

    @staticmethod
    def features(name):
        seed = sum(name.encode())
        return RetrievedFeatures(
            features=random(3, 4, 4, 8, seed=seed),
            clip_patch_tokens=random(3, 2, 2, 16, seed=seed + 1),
            text_embedding=random_unit(16, seed=seed + 2),
        )


def direct_context(names):
    """The last context of `names`, with the earlier ones eliminated in turn."""
    embeddings = []
    for name in names:
        r = FakeRetrieval.features(name)
        contexts = torch.stack(embeddings) if embeddings else None
        found = cosegment(r.features, r.clip_patch_tokens, r.text_embedding, contexts)
        embeddings.append(found.embedding)
    return embeddings[-1]


def test_contexts_are_computed_in_turn_and_shared():
    retrieve = FakeRetrieval()
    found = cosegment_categories(
        ["dog", "sky", "vegetation", "dog"],
        retrieve,
        context_categories=("tree", "sky"),
        same_as_context={"vegetation": "tree", "lorry": "sky"},
    )
    assert list(found) == ["dog", "sky", "vegetation"]
    assert retrieve.names == ["tree", "sky", "dog"]
    expected = {"vegetation": ["tree"], "sky": ["tree", "sky"], "dog": ["tree", "sky", "dog"]}
    for name, chain in expected.items():
        torch.testing.assert_close(found[name].embedding, direct_context(chain))


def test_order_of_the_contexts_matters():
    def sky(*contexts):
        return cosegment_categories(
            ["sky"], FakeRetrieval(), context_categories=contexts, columns="paper"
        )["sky"]

    assert not torch.equal(sky("sky", "tree").embedding, sky("tree", "sky").embedding)


def test_default_contexts_and_none():
    retrieve = FakeRetrieval()
    cosegment_categories(["dog"], retrieve)
    assert tuple(retrieve.names) == (*CONTEXT_CATEGORIES, "dog")
    alone = cosegment_categories(["dog"], FakeRetrieval(), context_categories=())["dog"]
    torch.testing.assert_close(alone.embedding, direct_context(["dog"]))


def test_alias_of_no_context_is_refused():
    with pytest.raises(ValueError, match="'vegetation' to 'tree'"):
        cosegment_categories(
            ["vegetation"],
            FakeRetrieval(),
            context_categories=("sky",),
            same_as_context={"vegetation": "tree"},
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((random(1, 2, 2, 4), random_unit(5), (2, 2)), "equal"),
        ((random(2, 2, 4), random_unit(4), (2, 2)), "clip_patch_tokens must be float with 4"),
        ((random(1, 2, 2, 4), random_unit(1, 1, 4), (2, 2)), "text_embeddings"),
        ((random(1, 2, 2, 4), random_unit(4), (0, 2)), "size"),
        ((torch.full((1, 2, 2, 4), float("inf")), random_unit(4), (2, 2)), "finite"),
    ],
)
def test_bad_input_to_text_attention_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        text_attention(*arguments)
