import pytest
import torch
from torch import nn

from zutis_model.layers.weight_loading import WithoutRandomInitialisation, load_strictly


def test_nothing_is_drawn_and_the_rest_is_computed():
    state = torch.get_rng_state()
    with WithoutRandomInitialisation():
        layers = nn.Sequential(nn.Linear(8, 8), nn.Conv2d(3, 4, 2), nn.LayerNorm(8))
        nn.init.trunc_normal_(layers[0].weight)
        attention = nn.MultiheadAttention(8, 2)
        nn.init.normal_(attention.in_proj_weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert layers[2].weight.tolist() == [1.0] * 8
    assert attention.in_proj_bias.tolist() == [0.0] * 24


def test_loads_other_float_types():
    module = nn.Linear(2, 1)
    weights = {"weight": torch.tensor([[1.5, -2.0]]).half(), "bias": torch.tensor([3.0]).half()}
    load_strictly(module, weights, "a line")
    assert module.weight.dtype == torch.float32
    assert module(torch.ones(1, 2)).item() == 2.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": torch.zeros(1, 2)}, r"a line: 1 missing \(bias\)"),
        (
            {"weight": torch.zeros(1, 2), "bias": torch.zeros(1), "x": torch.zeros(1)},
            r"1 unexpected \(x\)",
        ),
        (
            {"weight": torch.zeros(3, 2), "bias": torch.zeros(1)},
            r"weight \[3, 2\] instead of \[1, 2\]",
        ),
        ({c: torch.zeros(1) for c in "abcde"}, r"5 unexpected \(a, b, c and 2 more\)"),
    ],
)
def test_another_models_weights_are_refused(weights, message):
    module = nn.Linear(2, 1)
    before = module.weight.clone()
    with pytest.raises(ValueError, match=message):
        load_strictly(module, weights, "a line")
    assert torch.equal(module.weight, before)
