"""Masks of upsampled proposals: equal to those of PyTorch's interpolation."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from zutis_model.zutis import mask_upsampling
from zutis_model.zutis.mask_upsampling import (
    _blocks_of_bits,
    _in_blocks,
    blocks_of_masks,
    upsampled_masks,
)

SIZES = [
    ((6, 8), (48, 64)),
    ((7, 5), (33, 41)),
    ((1, 1), (4, 3)),
    ((9, 4), (5, 4)),
    ((3, 1), (8, 8)),
]


def smooth(grid: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(20, 1, 3, 3, generator=generator)
    return interpolate(coarse, grid, mode="bicubic")[:, 0].clamp(0, 1)


@pytest.mark.parametrize(("grid", "size"), SIZES)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["smooth", "noise"])
def test_masks_are_those_of_the_interpolated_proposals(grid, size, threshold, kind):
    noise = torch.rand(20, *grid, generator=torch.Generator().manual_seed(1))
    proposals = smooth(grid) if kind == "smooth" else noise
    values = interpolate(proposals[:, None], size, mode="bilinear")[:, 0]
    near = (values - threshold).abs() < 1e-6
    for found in (upsampled_masks(proposals, size, threshold),
                  _in_blocks(proposals, size, threshold)):  # fmt: skip
        assert found.dtype == torch.bool
        assert ((found == (values > threshold)) | near).all()
    assert near.float().mean() < 0.5


def test_flat_proposals_at_the_threshold_are_not_above_it():
    proposals = torch.tensor([0.5, 0.0, 1.0]).view(3, 1, 1).expand(3, 4, 4)
    found = upsampled_masks(proposals, (16, 16), 0.5)
    assert found.flatten(1).any(dim=1).tolist() == [False, False, True]
    assert found[2].all()


def test_no_proposals():
    assert upsampled_masks(torch.zeros(0, 4, 4), (8, 8), 0.5).shape == (0, 8, 8)


@pytest.mark.parametrize("pixels_at_once", [1, 3 * 48 * 64, 10**9])
def test_a_gpu_would_upsample_a_few_at_a_time(pixels_at_once, monkeypatch):
    proposals, size = smooth((6, 8)), (48, 64)
    expected = _in_blocks(proposals, size, 0.5)
    seen = []

    def record(maps, size):
        seen.append(maps.shape[1])
        return upsample(maps, size)

    upsample = mask_upsampling.upsample
    monkeypatch.setattr(mask_upsampling, "upsample", record)
    monkeypatch.setattr(mask_upsampling, "_PIXELS_AT_ONCE", pixels_at_once)
    assert torch.equal(_in_blocks(proposals, size, 0.5), expected)
    assert sum(seen) == 20
    assert max(seen) <= max(1, pixels_at_once // (48 * 64))


@pytest.mark.parametrize("bytes_at_once", [1, 1000, 10**9])
@pytest.mark.parametrize(("grid", "size"), SIZES)
def test_blocks_are_the_masks_in_pieces(grid, size, bytes_at_once):
    proposals = smooth(grid)
    blocks = list(blocks_of_masks(proposals, size, 0.5, bytes_at_once=bytes_at_once))
    expected = upsampled_masks(proposals, size, 0.5).flatten(1)
    assert torch.equal(torch.cat(blocks, dim=1), expected)
    a_row = 20 * size[1]
    assert max(block.numel() for block in blocks) <= max(bytes_at_once, a_row)


@pytest.mark.parametrize("bytes_at_once", [1, 1000, 10**9])
@pytest.mark.parametrize(("grid", "size"), SIZES)
def test_a_gpu_would_keep_bits(grid, size, bytes_at_once):
    proposals = smooth(grid)
    blocks = list(_blocks_of_bits(proposals, size, 0.5, bytes_at_once))
    expected = _in_blocks(proposals, size, 0.5).flatten(1)
    assert torch.equal(torch.cat(blocks, dim=1), expected)
    assert max(block.numel() for block in blocks) <= max(bytes_at_once, 20 * 8)


def test_no_proposals_have_empty_blocks():
    for block in blocks_of_masks(torch.zeros(0, 4, 4), (8, 8), 0.5, bytes_at_once=10):
        assert len(block) == 0
