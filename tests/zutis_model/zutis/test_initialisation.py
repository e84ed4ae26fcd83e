"""A network before training: the parts from CLIP, and the random ones."""

import pytest
import torch

from zutis_model.clip.towers import load_clip
from zutis_model.zutis.initialisation import initialise_zutis
from zutis_model.zutis.network import load_zutis

ARCHITECTURE = "ViT-S-32-alt"
SMALL = {"num_queries": 50, "num_decoder_layers": 3, "num_heads": 4}


@pytest.fixture(scope="module")
def clip():
    return load_clip(ARCHITECTURE, seed=3)


@pytest.fixture(scope="module")
def network(clip):
    return initialise_zutis(clip, ARCHITECTURE, seed=1, **SMALL)


def test_the_image_tower_is_a_copy_of_clips(clip, network):
    tower = clip.model.visual.state_dict()
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, tower[name]), name
        assert value.data_ptr() != tower[name].data_ptr(), name


def test_everything_can_be_trained_and_clip_stays_frozen(clip, network):
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())


def test_queries_are_standard_normal(network):
    queries = network.query_embed.detach()
    assert queries.shape == (50, 384)
    assert queries.mean().item() == pytest.approx(0, abs=0.03)
    assert queries.std().item() == pytest.approx(1, abs=0.03)


def test_perceptrons_and_decoder_have_torchs_ranges(network):
    width = 384
    linear = network.ffn1.layers[0].weight.detach()
    assert linear.abs().max().item() == pytest.approx(width**-0.5, rel=1e-2)
    xavier = (6 / (width + 3 * width)) ** 0.5
    attention = network.decoder.layers[0].self_attn.in_proj_weight.detach()
    assert attention.abs().max().item() == pytest.approx(xavier, rel=1e-2)


def test_decoder_layers_start_equal_but_apart(network):
    first, *others = network.decoder.layers
    assert len(others) == 2
    for layer in others:
        for (name, one), other in zip(first.named_parameters(), layer.parameters(), strict=True):
            assert torch.equal(one, other), name
            assert one.data_ptr() != other.data_ptr(), name


def test_the_seed_decides_what_is_drawn_and_torchs_own_state_does_not(clip, network):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = initialise_zutis(clip, ARCHITECTURE, seed=1, **SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    other = initialise_zutis(clip, ARCHITECTURE, seed=2, **SMALL)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(network.query_embed, other.query_embed)
    assert not torch.equal(network.ffn2.layers[1].weight, other.ffn2.layers[1].weight)


def test_its_state_dict_loads_as_zutis(network):
    loaded = load_zutis(network.state_dict(), architecture=network.architecture, num_heads=4)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels).mask_logits, network(pixels).mask_logits)


@pytest.mark.slow
def test_quickgelu_of_openais_weights_stays():
    extras = {name: torch.tensor(0) for name in ("input_resolution", "vocab_size")}
    weights = load_clip("ViT-B-32", seed=0).model.state_dict()
    clip = load_clip("ViT-B-32", weights | extras)
    network = initialise_zutis(clip, "ViT-B-32", num_queries=2, num_decoder_layers=1)
    assert network.architecture == "ViT-B-32-quickgelu"


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_queries", 0), ("num_decoder_layers", 0), ("num_heads", 0), ("num_heads", 7),
     ("seed", -1)],
)  # fmt: skip
def test_a_number_out_of_range_is_named(clip, name, value):
    with pytest.raises(ValueError, match=f"{name}.* {value}"):
        initialise_zutis(clip, ARCHITECTURE, **{name: value})


def test_another_architecture_is_refused(clip):
    with pytest.raises(ValueError, match="the image tower of ViT-M-32-alt"):
        initialise_zutis(clip, "ViT-M-32-alt", num_queries=2, num_decoder_layers=1)
