"""SelfMask of any size: sizes read from files, and sizes that are refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from zutis_model.checkpoints import identify_checkpoint, load_checkpoint
from zutis_model.saliency.selfmask import SelfMask, load_selfmask
from zutis_model.saliency.selfmask_sizes import (
    PUBLISHED,
    SelfMaskSizes,
    heads_of_width,
    sizes_of_state_dict,
)

SMALL = SelfMaskSizes(width=96, encoder_layers=3, decoder_layers=2, queries=4, grid=6)


def test_the_defaults_are_the_published_network():
    network = SelfMask()
    assert network.sizes == PUBLISHED == sizes_of_state_dict(network.state_dict())
    assert (PUBLISHED.width, PUBLISHED.heads, PUBLISHED.image_size) == (384, 6, 224)
    assert {block.attn.num_heads for block in network.encoder.blocks} == {6}
    assert {layer.self_attn.num_heads for layer in network.decoder.layers} == {6}


@pytest.mark.parametrize(("width", "heads"), [(32, 1), (64, 1), (96, 3), (128, 2), (160, 5)])
def test_heads_follow_from_the_width(width, heads):
    assert heads_of_width(width) == heads
    network = SelfMask(SelfMaskSizes(width=width, encoder_layers=1, decoder_layers=1, grid=2))
    assert network.encoder.blocks[0].attn.num_heads == heads
    assert network.decoder.layers[0].multihead_attn.num_heads == heads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_file_loads_by_itself(dtype, tmp_path):
    network = load_selfmask(sizes=SMALL, seed=3)
    weights = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    save_file(weights, tmp_path / "small.safetensors")
    read = load_file(tmp_path / "small.safetensors")

    found = identify_checkpoint(read)
    assert found.kind == found.architecture == "selfmask"
    assert found.description == "SelfMask (width 96, 3 + 2 layers, 6 x 6 patches of 8, 4 queries)"
    loaded = load_checkpoint(read, found)
    assert loaded.sizes == SMALL
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, weights[name].float()), name
    images = torch.randn(2, 3, 40, 61)
    soft, _ = loaded.predict(images)
    assert soft.shape == (2, 40, 61)
    tolerance = 0 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(soft, network.predict(images)[0], atol=tolerance, rtol=0)


def test_other_heads_must_be_given():
    sizes = SelfMaskSizes(width=64, encoder_layers=1, decoder_layers=1, queries=2, grid=3, heads=4)
    network = load_selfmask(sizes=sizes)
    images = torch.randn(1, 3, 24, 24)
    expected, _ = network.predict(images)
    given = load_selfmask(network.state_dict(), sizes=sizes)
    assert torch.equal(given.predict(images)[0], expected)
    default = load_selfmask(network.state_dict())
    assert default.sizes.heads == 1
    assert not torch.equal(default.predict(images)[0], expected)


def test_the_last_of_all_layers_is_the_output():
    network = load_selfmask(sizes=SMALL)
    images = torch.randn(2, 3, 40, 61)
    with torch.inference_mode():
        one, every = network(images), network(images, all_layers=True)
    assert every.mask_logits.shape == (2, 2, 4, 10, 16)
    assert every.objectness_logits.shape == (2, 2, 4)
    torch.testing.assert_close(every.mask_pred[:, -1], one.mask_pred)
    torch.testing.assert_close(every.objectness[:, -1], one.objectness)
    assert not torch.allclose(every.mask_pred[:, 0], one.mask_pred)


def test_missing_keys_of_a_state_dict_are_named():
    weights = load_selfmask(sizes=SMALL).state_dict()
    for name in ("encoder.pos_embed", "decoder.layers.1.norm3.bias"):
        lacking = {key: tensor for key, tensor in weights.items() if key != name}
        with pytest.raises(ValueError, match=rf"width 96.*1 missing \({name}\)"):
            load_selfmask(lacking)
    odd = {**weights, "encoder.pos_embed": torch.zeros(1, 8, 96)}
    with pytest.raises(ValueError, match=r"encoder\.pos_embed \[1, 8, 96\]"):
        load_selfmask(odd)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 48}, "width must be a multiple of 32, got 48"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"queries": 0}, "queries must be at least 1"),
        ({"encoder_layers": -1}, "encoder_layers must be at least 1"),
        ({"heads": 5}, "heads must divide the width 384, got 5"),
        ({"heads": -1}, "heads must divide"),
    ],
)
def test_sizes_that_no_network_has(sizes, message):
    with pytest.raises(ValueError, match=message):
        SelfMaskSizes(**sizes)
