import copy

import pytest
import timm
import torch

from tests.support.networks.network_input import as_input
from zutis_model.encoders.dense_vit import ARCHITECTURES, load_dense_vit

pytestmark = pytest.mark.slow

DISTILLED = "deit_small_distilled_patch16_224"
DINO_16 = "vit_small_patch16_224.dino"


@pytest.fixture(scope="module")
def networks():
    return {name: load_dense_vit(name) for name in ARCHITECTURES}


def published(network):
    """The network's weights as a published file holds them, and with DeiT's classifiers."""
    weights = dict(network.transformer.state_dict())
    heads = {"head": torch.zeros(1000, 384), "head_dist": torch.zeros(1000, 384)}
    for name, weight in heads.items():
        weights |= {f"{name}.weight": weight, f"{name}.bias": torch.zeros(1000)}
    return weights


def timm_tokens(network, images, position):
    """What timm itself makes of images that are whole patches, with the position it is given."""
    model = copy.deepcopy(network.transformer)
    model.set_input_size(images.shape[-2:])
    with torch.inference_mode():
        model.pos_embed.copy_(position)
        tokens = model.forward_features(images)[:, model.num_prefix_tokens :]
    rows, columns = (side // network.patch_size for side in images.shape[-2:])
    return tokens.reshape(len(images), rows, columns, 384)


def resized_position(network, rows, columns, prefix):
    position = network.transformer.pos_embed
    side = round((position.shape[1] - prefix) ** 0.5)
    grid = position[0, prefix:].reshape(side, side, 384).permute(2, 0, 1)[None]
    grid = torch.nn.functional.interpolate(grid, (rows, columns), mode="bicubic")
    return torch.cat([position[:, :prefix], grid[0].permute(1, 2, 0).reshape(1, -1, 384)], dim=1)


@pytest.mark.parametrize("name", [DISTILLED, DINO_16])
def test_tokens_are_those_of_timm_at_the_training_size(name, networks, make_image):
    images = as_input(make_image(1, 224, 224))
    tokens = networks[name].encode(images)
    assert tokens.shape == (1, 14, 14, 384)
    assert tokens.dtype == torch.float32
    expected = timm_tokens(networks[name], images, networks[name].transformer.pos_embed)
    torch.testing.assert_close(tokens, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        (DISTILLED, (70, 47), (4, 2)),  # incomplete patches are dropped
        (DINO_16, (70, 47), (5, 3)),  # and padded here
        ("vit_small_patch8_224.dino", (33, 64), (5, 8)),
    ],
)
def test_other_sizes(name, size, grid, networks, make_image):
    network = networks[name]
    images = as_input(make_image(2, *size))
    whole = torch.zeros(1, 3, *(g * network.patch_size for g in grid))
    rows, columns = min(size[0], whole.shape[2]), min(size[1], whole.shape[3])
    whole[..., :rows, :columns] = images[..., :rows, :columns]
    position = resized_position(network, *grid, prefix=2 if name == DISTILLED else 1)

    tokens = network.encode(images)
    assert tokens.shape == (1, *grid, 384)
    expected = timm_tokens(network, whole, position)
    torch.testing.assert_close(tokens, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [(1, 1), (3, 17), (16, 16), (1, 100)])
def test_tiny_images(size, name, networks, make_image):
    network = networks[name]
    tokens = network.encode(as_input(make_image(0, *size)))
    patch = network.patch_size
    if name == DISTILLED:
        grid = tuple(max(side // patch, 1) for side in size)
    else:
        grid = tuple(-(-side // patch) for side in size)
    assert tokens.shape == (1, *grid, 384)
    assert torch.isfinite(tokens).all()


@pytest.mark.parametrize("name", [DISTILLED, DINO_16])
def test_batch_equals_singles(name, networks, make_image):
    images = as_input(make_image(1, 50, 61), make_image(2, 50, 61))
    tokens = networks[name].encode(images)
    for i in range(2):
        single = networks[name].encode(images[i : i + 1])
        torch.testing.assert_close(tokens[i], single[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [DISTILLED, DINO_16])
def test_bfloat16_is_close(name, networks, make_image):
    images = as_input(make_image(1, 64, 80))
    exact = networks[name].encode(images)
    tokens = load_dense_vit(name, precision="bfloat16").encode(images)
    assert tokens.dtype == torch.float32
    assert not torch.equal(tokens, exact)
    assert torch.nn.functional.cosine_similarity(tokens, exact, dim=-1).min() > 0.99


def test_seeds_differ(networks, make_image):
    images = as_input(make_image(1, 32, 32))
    other = load_dense_vit(DINO_16, seed=1).encode(images)
    assert not torch.equal(other, networks[DINO_16].encode(images))


def assert_loads(name, checkpoint, network):
    loaded = load_dense_vit(name, checkpoint)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[key])


def test_published_files_load(networks):
    dino = networks[DINO_16]
    assert_loads(DINO_16, dino.transformer.state_dict(), dino)

    deit = networks["deit_small_patch16_224"]
    weights = published(deit)
    weights = {k: v for k, v in weights.items() if not k.startswith("head_dist")}
    assert_loads("deit_small_patch16_224", {"model": weights}, deit)
    assert_loads("deit_small_patch16_224", weights, deit)

    distilled = networks[DISTILLED]
    assert_loads(DISTILLED, {"model": published(distilled), "epoch": 299}, distilled)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layout_is_that_of_timms_model_of_the_name(name, networks):
    """timm loads the published files strictly, classifier and all."""
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    transformer = networks[name].transformer
    expected = {k: v.shape for k, v in model.state_dict().items()}
    actual = {k: v.shape for k, v in transformer.state_dict().items()}
    assert set(expected) - set(actual) == ARCHITECTURES[name].unused
    assert actual == {k: shape for k, shape in expected.items() if k in actual}
    for found, wanted in zip(transformer.blocks, model.blocks, strict=True):
        assert found.attn.num_heads == wanted.attn.num_heads
        assert found.norm1.eps == wanted.norm1.eps
        assert type(found.mlp.act) is type(wanted.mlp.act)


def test_another_models_state_dict_is_refused(networks):
    dino, distilled = networks[DINO_16], networks[DISTILLED]
    with pytest.raises(ValueError, match=r"vit_small_patch16_224\.dino: .*head\.weight"):
        load_dense_vit(DINO_16, published(dino))
    with pytest.raises(ValueError, match=r"2 unexpected \(head_dist\.weight, head_dist\.bias\)"):
        load_dense_vit("deit_small_patch16_224", published(networks["deit_small_patch16_224"]))
    with pytest.raises(ValueError, match=r"missing \(dist_token\).*pos_embed \[1, 197, 384\]"):
        load_dense_vit(DISTILLED, {"model": dino.transformer.state_dict()})
    with pytest.raises(ValueError, match=r"dist_token.*pos_embed"):
        load_dense_vit("deit_small_patch16_224", distilled.transformer.state_dict())
    with pytest.raises(ValueError, match=r"patch_embed\.proj\.weight"):
        load_dense_vit("vit_small_patch8_224.dino", dino.transformer.state_dict())
    with pytest.raises(ValueError, match=r"1 unexpected \(epoch\)"):
        load_dense_vit(DINO_16, dict(dino.transformer.state_dict()) | {"epoch": torch.zeros(())})


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"deit_small_distilled.*resnet50"):
        load_dense_vit("resnet50")
    with pytest.raises(ValueError, match="precision"):
        load_dense_vit(DINO_16, precision="float16")
    with pytest.raises(ValueError, match="seed"):
        load_dense_vit(DINO_16, seed=-1)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 16, 16),
        torch.zeros(1, 1, 16, 16),
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        torch.zeros(1, 3, 0, 16),
    ],
)
def test_bad_images_are_refused(images, networks):
    with pytest.raises(ValueError, match="images must"):
        networks[DINO_16].encode(images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", [DISTILLED, DINO_16])
def test_gpu_agrees(name, networks, make_image):
    images = as_input(make_image(1, 70, 90))
    tokens = load_dense_vit(name, device="cuda").encode(images.cuda())
    cosine = torch.nn.functional.cosine_similarity(
        tokens.cpu(), networks[name].encode(images), dim=-1
    )
    assert cosine.min() > 0.999
