import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.networks.network_input import as_input
from zutis_model.clip.dense import patch_tokens
from zutis_model.zutis.network import Zutis, load_zutis
from zutis_model.zutis.semantic_prediction import semantic_labels, semantic_logits

pytestmark = pytest.mark.slow

ARCHITECTURES = {"ViT-B/32": "ViT-B-32-quickgelu", "ViT-B/16": "ViT-B-16-quickgelu"}
TAGS = tuple(
    f"vit_b_{patch}_{size}" for patch in (32, 16) for size in ("224x224", "256x352", "200x150")
)


@pytest.fixture(scope="module")
def networks():
    return {name: load_zutis(architecture=ours) for name, ours in ARCHITECTURES.items()}


@pytest.fixture(scope="module")
def b32(networks):
    return networks["ViT-B/32"]


@pytest.fixture(scope="module", params=TAGS)
def case(request, parity_json, parity_arrays, make_image, networks):
    """A network, its input, and what the reference says of it."""
    (facts,) = [c for c in parity_json("zutis")["cases"] if c["tag"] == request.param]
    images = [make_image(seed, facts["h"], facts["w"]) for seed in facts["seeds"]]
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    assert digests == facts["image_sha256"]
    prefix = f"{request.param}_"
    arrays = {
        name.removeprefix(prefix): array
        for name, array in parity_arrays("zutis").items()
        if name.startswith(prefix)
    }
    return networks[facts["arch"]], as_input(*images), arrays, facts


@pytest.mark.parametrize("patch", [16, 32])
def test_state_dict_is_that_of_the_published_checkpoints(patch, networks, parity_json):
    actual = [
        [name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in networks[f"ViT-B/{patch}"].state_dict().items()
    ]
    assert sorted(actual) == sorted(parity_json(f"zutis_vit_b_{patch}_state_dict"))


def test_network_agrees_with_the_reference(case):
    network, images, expected, facts = case
    with torch.inference_mode():
        output = network(images, all_layers=True)
        encoded = patch_tokens(network.encoder, images).flatten(1, 2)[:, ::16]
    stride = facts["token_stride"]
    tokens = output.patch_tokens[:, ::stride, ::stride]
    proposals = output.mask_proposals

    np.testing.assert_allclose(encoded, expected["encoder_tokens_every16"], rtol=0, atol=5e-5)
    np.testing.assert_allclose(tokens, expected["patch_tokens_strided"], rtol=0, atol=1e-5)
    last, first_four = expected["mask_proposals_last"], expected["mask_proposals_q0to3"]
    np.testing.assert_allclose(proposals[:, -1], last, rtol=0, atol=2e-4)
    np.testing.assert_allclose(proposals[:, :, :4], first_four, rtol=0, atol=2e-4)


def test_semantic_prediction_agrees_with_the_reference(case, unit_rows):
    network, images, expected, _ = case
    texts = torch.from_numpy(unit_rows("text_embeddings", 5, 512))
    with torch.inference_mode():
        tokens = network(images).patch_tokens
    logits = semantic_logits(tokens, texts)
    labels = semantic_labels(tokens, texts, size=images.shape[-2:])

    np.testing.assert_allclose(logits, expected["semantic_logits_low"], rtol=0, atol=1e-5)
    assert np.mean(labels.numpy() != expected["semantic_labels"]) <= 1e-3


def test_the_last_layer_alone_is_the_last_of_all(b32, make_image):
    images = as_input(make_image(1, 64, 96), make_image(2, 64, 96))
    with torch.inference_mode():
        every, last = b32(images, all_layers=True), b32(images)
    assert every.mask_logits.shape == (2, 6, 100, 4, 6)
    torch.testing.assert_close(last.mask_logits, every.mask_logits[:, -1:], rtol=0, atol=1e-4)
    assert last.patch_tokens.shape == (2, 4, 6, 512)
    torch.testing.assert_close(last.patch_tokens.norm(dim=-1), torch.ones(2, 4, 6))


def test_batch_equals_singles(b32, make_image):
    images = as_input(make_image(1, 75, 90), make_image(2, 75, 90))
    with torch.inference_mode():
        together = b32(images)
        for i in range(2):
            alone = b32(images[i : i + 1])
            for name in ("mask_proposals", "patch_tokens"):
                ours, expected = getattr(together, name)[i], getattr(alone, name)[0]
                torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_one_patch_is_enough_and_less_is_an_error(b32):
    with torch.inference_mode():
        output = b32(torch.zeros(1, 3, 32, 32))
        assert output.mask_logits.shape == (1, 1, 100, 2, 2)
        assert torch.isfinite(output.patch_tokens).all()
        with pytest.raises(ValueError, match=r"1 x 1 pixels hold no patch of 32 x 32"):
            b32(torch.zeros(1, 3, 1, 1))
        with pytest.raises(ValueError, match=r"31 x 200 pixels"):
            b32(torch.zeros(1, 3, 31, 200))


def test_nan_is_refused_when_predicting(b32):
    images = torch.zeros(1, 3, 64, 64)
    images[0, 1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        b32(images)


@pytest.mark.parametrize("stops", [True, False])
def test_the_masks_gradient_reaches_the_encoder_only_by_choice(stops):
    network = load_zutis(architecture="ViT-B-32-quickgelu", num_decoder_layers=1, num_queries=3)
    network.stop_gradient = stops
    network.requires_grad_(True)
    network(torch.rand(1, 3, 64, 64)).mask_logits.sum().backward()
    assert (network.encoder.conv1.weight.grad is None) == stops
    assert network.ffn1.layers[0].weight.grad.abs().sum() > 0


def test_the_texts_gradient_reaches_the_encoder(b32):
    b32.requires_grad_(True)
    b32(torch.rand(1, 3, 64, 64)).patch_tokens[0, 0, 0, 0].backward()
    assert b32.encoder.conv1.weight.grad.abs().sum() > 0
    b32.requires_grad_(False)
    b32.zero_grad(set_to_none=True)


def test_checkpoint_says_what_it_is_and_saves_back(tmp_path, parity_json):
    small = load_zutis(
        architecture="ViT-B-32-quickgelu", num_queries=7, num_decoder_layers=2, seed=3
    )
    save_file(small.state_dict(), tmp_path / "zutis.safetensors")
    loaded = load_zutis(load_file(tmp_path / "zutis.safetensors"))
    assert loaded.architecture == "ViT-B-32-quickgelu"
    assert loaded.query_embed.shape == (7, 768)
    assert not loaded.training
    assert list(loaded.state_dict()) == list(small.state_dict())
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, small.state_dict()[name]), name


def test_another_models_checkpoint_is_refused(b32):
    with pytest.raises(ValueError, match=r"ZUTIS.*query_embed.*visual\.proj"):
        load_zutis({"visual.proj": torch.zeros(768, 512)})
    weights = dict(b32.state_dict())
    del weights["ffn2.layers.2.bias"]
    weights["text_embeddings"] = torch.zeros(5, 512)
    message = r"1 missing \(ffn2\.layers\.2\.bias\); 1 unexpected \(text_embeddings\)"
    with pytest.raises(ValueError, match=message):
        load_zutis(weights)


def test_bfloat16_is_close(b32, make_image):
    images = as_input(make_image(2101, 128, 128))
    half = load_zutis(b32.state_dict(), precision="bfloat16")
    with torch.inference_mode():
        exact, output = b32(images), half(images)
    assert output.mask_logits.dtype == output.patch_tokens.dtype == torch.float32
    cosines = (output.patch_tokens * exact.patch_tokens).sum(dim=-1)
    assert cosines.min() > 0.99


def test_a_resnet_encodes_too():
    # The reference's ablation; batch norms keep their statistics while it trains.
    network = load_zutis(architecture="RN50-quickgelu", num_queries=3, num_decoder_layers=1).train()
    assert network.training
    assert not network.encoder.bn1.training
    with torch.no_grad():
        output = network(torch.rand(1, 3, 64, 96))
    assert output.mask_logits.shape == (1, 1, 3, 4, 6)
    assert output.patch_tokens.shape == (1, 4, 6, 1024)
    assert torch.isfinite(output.patch_tokens).all()


@pytest.mark.parametrize(
    ("architecture", "message"),
    [("ViT-B-99", "unknown CLIP architecture"), ("coca_ViT-B-32", "no patch tokens")],
)
def test_unsuitable_architectures(architecture, message):
    with pytest.raises(ValueError, match=message):
        load_zutis(architecture=architecture)
    with pytest.raises(ValueError, match="precision"):
        Zutis(precision="float16")
