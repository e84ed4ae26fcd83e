import pytest
import torch

from zutis_model.saliency.selfmask_initialisation import initialise_selfmask
from zutis_model.saliency.selfmask_sizes import SelfMaskSizes

SIZES = SelfMaskSizes(width=64, encoder_layers=2, decoder_layers=2, queries=5, grid=6)


def test_the_seed_alone_decides():
    one = initialise_selfmask(SIZES, seed=4).state_dict()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    same = initialise_selfmask(SIZES, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    other = initialise_selfmask(SIZES, seed=5).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    for name in ("encoder.pos_embed", "encoder.blocks.1.mlp.fc1.weight", "query_embed"):
        assert not torch.equal(one[name], other[name])


def test_all_of_it_can_learn():
    network = initialise_selfmask(SIZES)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_first_masks_are_undecided():
    """Neither 0 nor 1, where the sigmoid passes no gradient."""
    network = initialise_selfmask(SelfMaskSizes(encoder_layers=2, decoder_layers=1, grid=6))
    with torch.inference_mode():
        masks = network(torch.randn(2, 3, 48, 48)).mask_pred
    assert 0.02 < masks.quantile(0.05) < masks.quantile(0.95) < 0.98


def test_bad_seeds():
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        initialise_selfmask(SIZES, seed=-1)
