import pytest
import torch
from torch.nn import functional

from zutis_model.clip.dense import (
    _attention_pool,
    _position_embedding,
    check_is_dense,
    patch_size,
    patch_tokens,
    project,
    token_width,
    value_tokens,
)
from zutis_model.clip.towers import load_clip
from zutis_model.zutis.network import load_zutis


@pytest.fixture(scope="module")
def vit(clip_b32):
    return clip_b32.model.visual


@pytest.fixture(scope="module")
def resnet():
    return load_clip("RN50-quickgelu").model.visual


def images(height, width, count=1):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(5))


def test_sizes_of_the_towers(vit, resnet):
    assert (patch_size(vit), token_width(vit)) == (32, 768)
    assert (patch_size(resnet), token_width(resnet)) == (32, 2048)


@pytest.mark.parametrize("size", [(32, 32), (64, 100), (94, 64)])
@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_tokens_keep_the_grid_and_lose_the_remainder(tower, size, request):
    tower = request.getfixturevalue(tower)
    rows, columns = size[0] // 32, size[1] // 32
    with torch.inference_mode():
        tokens = patch_tokens(tower, images(*size, count=2))
        values = value_tokens(tower, images(*size, count=2))
    assert tokens.shape == (2, rows, columns, token_width(tower))
    assert values.shape == project(tower, tokens).shape == (2, rows, columns, tower.output_dim)


def test_the_remainder_changes_nothing(vit):
    image = images(64, 96)
    padded = functional.pad(image, (0, 31, 0, 31), value=3.0)
    with torch.inference_mode():
        torch.testing.assert_close(patch_tokens(vit, padded), patch_tokens(vit, image))


def test_without_the_offset_positions_would_be_clips_own(vit, monkeypatch):
    # At the native size the class token must give CLIP's own image embedding, but for the offset.
    image = images(224, 224)
    monkeypatch.setattr("zutis_model.clip.dense._SCALE_OFFSET", 0.0)
    position = _position_embedding(vit.positional_embedding, 7, 7)
    torch.testing.assert_close(position, vit.positional_embedding, rtol=0, atol=1e-6)
    with torch.inference_mode():
        # forward_intermediates applies the final norm to all tokens, as we do.
        native = vit.forward_intermediates(image, indices=1, normalize_intermediates=True)
        tokens = patch_tokens(vit, image).permute(0, 3, 1, 2)
    torch.testing.assert_close(tokens, native["image_intermediates"][0], rtol=0, atol=1e-5)


def test_the_offset_moves_every_position(vit):
    moved = _position_embedding(vit.positional_embedding, 7, 7)
    assert torch.equal(moved[0], vit.positional_embedding[0])
    assert (moved[1:] != vit.positional_embedding[1:]).any(dim=1).sum() >= 48


def test_a_resnets_projection_is_its_attention_pooling(resnet, monkeypatch):
    monkeypatch.setattr("zutis_model.clip.dense._SCALE_OFFSET", 0.0)
    with torch.inference_mode():
        tokens = patch_tokens(resnet, images(224, 224))
        pooled = _attention_pool(resnet.attnpool, tokens)
        expected = resnet(images(224, 224))
    torch.testing.assert_close(pooled[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_values_of_one_patch_are_the_whole_block(vit):
    # With a single place and no class token, attention is the identity on the values: the last
    # block as it stands must give the same.
    image = images(32, 32)
    with torch.inference_mode():
        actual = value_tokens(vit, image)[0, 0]
        inputs = {}
        hook = vit.transformer.resblocks[-1].register_forward_pre_hook(
            lambda _, arguments: inputs.update(tokens=arguments[0])
        )
        vit.transformer(_first_tokens(vit, image))
        hook.remove()
        alone = inputs["tokens"][:, 1:]
        expected = vit.ln_post(vit.transformer.resblocks[-1](alone)) @ vit.proj
    torch.testing.assert_close(actual, expected[0], rtol=0, atol=1e-5)


def _first_tokens(vit, image):
    patches = vit.conv1(image).flatten(2).transpose(1, 2)
    tokens = torch.cat([vit.class_embedding.expand(1, 1, -1), patches], dim=1)
    return vit.ln_pre(tokens + _position_embedding(vit.positional_embedding, 1, 1))


def test_values_see_only_their_own_place_in_the_last_block(vit):
    last = vit.transformer.resblocks[-1]
    calls = []
    hook = last.attn.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        value_tokens(vit, images(64, 64))
    hook.remove()
    assert not calls, "the last attention must not run"


@pytest.mark.parametrize("architecture", ["ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu"])
@pytest.mark.slow
def test_larger_models_have_tokens_of_14_pixels(architecture):
    tower = load_clip(architecture).model.visual
    with torch.inference_mode():
        tokens = patch_tokens(tower, images(30, 43))
    assert tokens.shape == (1, 2, 3, 1024)
    assert project(tower, tokens).shape == (1, 2, 3, 768)


def test_towers_without_patch_tokens_are_refused():
    with pytest.raises(ValueError, match="no patch tokens"):
        check_is_dense(torch.nn.Linear(3, 3))


@pytest.mark.slow
def test_gradients_reach_the_positions():
    tower = load_zutis(architecture="ViT-B-32-quickgelu").encoder.requires_grad_(True)
    patch_tokens(tower, images(64, 64)).sum().backward()
    assert tower.positional_embedding.grad.abs().sum() > 0
