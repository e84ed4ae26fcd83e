import numpy as np
import pytest
import torch
from torch import nn

from zutis_model.layers.synthetic_weights import fill_with_synthetic_weights, synthetic_weight


def test_agrees_with_the_recipe(parity_json):
    checked = 0
    for model in ("selfmask", "zutis_vit_b_16", "clip_vit_b_32"):
        for tensor in parity_json("weights_check")[model]:
            weight = synthetic_weight(tensor["name"], tensor["shape"])
            assert weight.dtype == np.float32
            assert weight.shape == tuple(tensor["shape"])
            assert weight.ravel()[:3] == pytest.approx(tensor["first3"], abs=1e-6)
            # Centred rows sum to rounding noise, hence the absolute part.
            assert weight.sum(dtype=np.float64) == pytest.approx(tensor["sum"], rel=1e-5, abs=1e-5)
            checked += 1
    assert checked > 10


def test_seeds_give_independent_weights_of_one_distribution():
    zero, one, other = (synthetic_weight("a.weight", (300, 400), seed) for seed in (0, 1, 2))
    assert abs(np.corrcoef(zero.ravel(), one.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02
    assert one.std() == pytest.approx(zero.std(), rel=0.02)
    np.testing.assert_array_equal(one, synthetic_weight("a.weight", (300, 400), 1))


def test_scalars_and_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="logit_scale"):
        synthetic_weight("logit_scale", ())
    with pytest.raises(ValueError, match="seed"):
        synthetic_weight("a.weight", (2, 2), seed=-1)


def test_fill_leaves_scalars_and_buffers():
    module = nn.Module()
    module.linear = nn.Linear(4, 3).half()
    module.logit_scale = nn.Parameter(torch.tensor(2.5))
    module.register_buffer("mask", torch.full((3,), 7.0))

    fill_with_synthetic_weights(module, seed=5)

    expected = torch.from_numpy(synthetic_weight("linear.weight", (3, 4), 5)).half()
    assert torch.equal(module.linear.weight, expected)
    assert module.logit_scale.item() == 2.5
    assert module.mask.tolist() == [7.0, 7.0, 7.0]
