import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from zutis_model.clip.dense import patch_tokens, project
from zutis_model.clip.own_architectures import make_tokenizer
from zutis_model.layers.normalisation import normalise
from zutis_model.training.contrastive import (
    LARGEST_SCALE,
    contrastive_loss,
    embed_pairs,
    limit_scale,
    make_optimisers,
    new_clip,
)

ARCHITECTURE = "made-ViT-8"


@pytest.fixture(scope="module")
def model():
    return new_clip(ARCHITECTURE, 0, image_size=32)


def unit(*shape, seed):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_loss_agrees_with_the_formula():
    images, texts, scale = unit(5, 8, seed=0), unit(5, 8, seed=1), 7.0
    expected = 0.0
    for one, other in ((images, texts), (texts, images)):
        for i in range(5):
            cosines = [float(scale * one[i] @ other[j]) for j in range(5)]
            expected -= cosines[i] - math.log(sum(map(math.exp, cosines)))
    loss = contrastive_loss(images, texts, torch.tensor(scale))
    assert float(loss) == pytest.approx(expected / 10, abs=1e-5)


def test_captions_that_are_equal_give_the_gradient_of_shared_targets():
    images = unit(4, 8, seed=0).requires_grad_()
    texts = unit(4, 8, seed=1)
    texts[1] = texts[0]
    (gradient,) = torch.autograd.grad(contrastive_loss(images, texts, torch.tensor(5.0)), images)
    shared = torch.eye(4)
    shared[:2, :2] = 0.5
    logits = 5.0 * images @ texts.T
    loss = (F.cross_entropy(logits, shared) + F.cross_entropy(logits.T, shared)) / 2
    (expected,) = torch.autograd.grad(loss, images)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("images", "texts"), [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((2,), (2,)), ((0, 3), (0, 3))]
)
def test_loss_refuses_what_doesnt_belong_together(images, texts):
    with pytest.raises(ValueError, match="n pairs"):
        contrastive_loss(torch.ones(images), torch.ones(texts), torch.tensor(1.0))


def test_initial_weights_depend_on_the_seed_alone(model):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again, other = (new_clip(ARCHITECTURE, seed, image_size=32) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert not torch.equal(other.visual.proj, model.visual.proj)
    assert model.training


def test_training_goes_on_at_another_size(model):
    larger = new_clip(ARCHITECTURE, 1, image_size=64, state_dict=model.state_dict())
    assert torch.equal(larger.visual.proj, model.visual.proj)
    assert model.visual.positional_embedding.shape == (17, 160)
    assert larger.visual.positional_embedding.shape == (65, 160)
    # Of the same places: the mean over the grid stays about where it was.
    means = [clip.visual.positional_embedding[1:].mean(dim=0) for clip in (model, larger)]
    torch.testing.assert_close(*means, atol=0.02, rtol=0)


def test_unknown_architecture():
    with pytest.raises(ValueError, match="unknown CLIP architecture"):
        new_clip("made-ViT-9", 0)


def test_pairs_are_unit_rows_that_training_can_reach(model):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    tokens = make_tokenizer(ARCHITECTURE)(["a star", "a heart on paper"])
    image_rows, text_rows = embed_pairs(model, images, tokens)
    for embeddings in (image_rows, text_rows):
        assert embeddings.shape == (2, 128)
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))
    contrastive_loss(image_rows, text_rows, model.logit_scale.exp()).backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None]
    assert unreached == []


def test_each_image_of_a_mosaic_has_an_embedding_of_its_own(model):
    """The order of images is kept, and an image is what its own tokens say."""
    larger = new_clip(ARCHITECTURE, 0, image_size=64)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    tokens = make_tokenizer(ARCHITECTURE)(["a star"] * 8)
    changed = images.clone()
    changed[5] = 0
    with torch.no_grad():
        before, _ = embed_pairs(larger, images, tokens, tiles=2)
        after, _ = embed_pairs(larger, changed, tokens, tiles=2)
    moved = (after - before).norm(dim=-1)
    assert moved[:4].max() < 1e-5  # another mosaic
    assert moved.argmax() == 5


def test_a_mosaic_is_the_images_side_by_side():
    larger = new_clip(ARCHITECTURE, 0, image_size=64)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    tokens = make_tokenizer(ARCHITECTURE)(["a star"] * 4)
    above, below = (torch.cat([images[i], images[i + 1]], dim=2) for i in (0, 2))
    mosaic = torch.cat([above, below], dim=1)[None]
    normalised = normalise(mosaic, larger.visual.image_mean, larger.visual.image_std)
    with torch.no_grad():
        embedded, _ = embed_pairs(larger, images, tokens, tiles=2)
        whole = project(larger.visual, patch_tokens(larger.visual, normalised))[0]
    expected = F.normalize(whole[:4, 4:].mean(dim=(0, 1)), dim=-1)
    torch.testing.assert_close(embedded[1], expected, atol=1e-5, rtol=1e-4)


def test_mosaics_that_can_not_be_made(model):
    tokens = make_tokenizer(ARCHITECTURE)(["a star"] * 3)
    with pytest.raises(ValueError, match="multiple of 4 images, got 3"):
        embed_pairs(model, torch.zeros((3, 3, 16, 16), dtype=torch.uint8), tokens, tiles=2)


def test_the_scale_is_limited():
    model = new_clip(ARCHITECTURE, 0, image_size=32)
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    limit_scale(model)
    assert float(model.logit_scale.detach().exp()) == pytest.approx(LARGEST_SCALE, rel=1e-5)


def test_every_parameter_has_one_optimiser(model):
    muon, adamw = make_optimisers(model, 1e-3, 0.2)
    matrices, others = adamw.param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.2, 0.0)
    of_muon = muon.param_groups[0]["params"]
    taken = [*of_muon, *matrices["params"], *others["params"]]
    assert sorted(map(id, taken)) == sorted(id(tensor) for tensor in model.parameters())
    assert any(tensor is model.logit_scale for tensor in others["params"])
    assert any(tensor is model.visual.conv1[0].weight for tensor in matrices["params"])
    for tensor in (
        model.visual.conv1[-1].mlp.fc1.weight,
        model.visual.transformer.resblocks[0].attn.in_proj_weight,
        model.transformer.resblocks[0].mlp.c_proj.weight,
    ):
        assert any(one is tensor for one in of_muon)
    assert muon.param_groups[0]["lr"] == pytest.approx(10 * adamw.param_groups[0]["lr"])
