"""Muon on any CPU: equal steps with and without hardware products of bfloat16."""

from __future__ import annotations

import torch
from torch import nn

from zutis_model.training.muon import _ProductsInFloat32, inner_matrices, make_muon


def stepped(monkeypatch, supported: bool) -> torch.Tensor:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    generator = torch.Generator().manual_seed(0)
    matrix = nn.Parameter(torch.randn(24, 16, generator=generator))
    before = matrix.detach().clone()
    optimiser = make_muon([([matrix], 0.1)], weight_decay=0.0)
    matrix.grad = torch.randn(24, 16, generator=generator)
    optimiser.step()
    return matrix.detach() - before


def test_steps_are_the_same_with_and_without_instructions_for_bfloat16(monkeypatch):
    slow, fast = stepped(monkeypatch, True), stepped(monkeypatch, False)
    assert (slow - fast).abs().max() < 0.02 * slow.abs().max()
    assert slow.norm() > 0


def test_products_of_bfloat16_are_rounded_once():
    generator = torch.Generator().manual_seed(1)
    a, b, c = (torch.randn(40, 40, generator=generator).bfloat16() for _ in range(3))
    with _ProductsInFloat32():
        product, sum_of_both = a @ b, torch.addmm(c, a, b, beta=0.5, alpha=2.0)
        others = a.float() @ b.float()
    assert torch.equal(product, (a.float() @ b.float()).bfloat16())
    exact = torch.addmm(c.float(), a.float(), b.float(), beta=0.5, alpha=2.0)
    assert torch.equal(sum_of_both, exact.bfloat16())
    assert others.dtype == torch.float32


def test_inner_matrices_are_those_of_blocks():
    named = [
        ("encoder.transformer.resblocks.0.mlp.c_fc.weight", nn.Parameter(torch.zeros(2, 2))),
        ("encoder.transformer.resblocks.0.mlp.c_fc.bias", nn.Parameter(torch.zeros(2))),
        ("query_embed", nn.Parameter(torch.zeros(2, 2))),
    ]
    assert inner_matrices(named) == {"encoder.transformer.resblocks.0.mlp.c_fc.weight"}
