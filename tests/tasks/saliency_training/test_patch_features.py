from __future__ import annotations

import numpy as np
import pytest
import torch

from storage.errors.exceptions import WeightsError
from tasks.saliency_training.patch_features import grid_of, load_patch_features
from zutis_model.encoders.dense_vit import load_dense_vit
from zutis_model.layers.normalisation import normalise

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [(100, 100), (96, 160), (160, 96), (5, 4000), (4000, 5), (1, 1)])
@pytest.mark.parametrize("patches", [16, 100, 784])
def test_grids_are_nearly_square_and_not_too_large(size, patches):
    rows, columns = grid_of(*size, patches)
    assert 1 <= rows * columns <= patches
    if 0.5 < size[0] / size[1] < 2:
        assert rows * columns > 0.75 * patches
        assert rows / columns == pytest.approx(size[0] / size[1], rel=0.25)


@pytest.mark.parametrize("spec", ["made-ViT-8:random:0", "vit_small_patch16_224.dino:random:1"])
def test_networks_see_the_whole_image_in_whole_patches(spec):
    source = load_patch_features(spec)
    found = source(PIXELS, 24)
    assert found.shape[:2] == grid_of(60, 90, 24) == (4, 6)
    assert found.dtype == np.float32
    assert "untrained" in source.label
    other = PIXELS.copy()
    other[-10:, -10:] = 255 - other[-10:, -10:]
    changed = np.abs(source(other, 24) - found).max(axis=-1)
    assert changed[-1, -1] == changed.max() > 0


def test_an_encoders_file(tmp_path):
    network = load_dense_vit("vit_small_patch16_224.dino", seed=2)
    torch.save(network.transformer.state_dict(), tmp_path / "dino.pth")
    source = load_patch_features(f"vit_small_patch16_224.dino:{tmp_path / 'dino.pth'}")
    pixels = PIXELS[:48, :64]
    expected = network.encode(normalise(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]))
    np.testing.assert_allclose(source(pixels, 12), expected[0], atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vit_small_patch16_224.dino", "names no weights"),
        ("vit_small_patch16_224.dino:missing.pth", "no weights file missing.pth"),
        ("colour", "colour"),
        pytest.param("convnext_base:random:0", "patches", marks=pytest.mark.slow),
    ],
)
def test_unknown_sources(spec, message):
    with pytest.raises(WeightsError, match=message):
        load_patch_features(spec)


def test_another_models_file(tmp_path):
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="can't be loaded as vit_small_patch8"):
        load_patch_features(f"vit_small_patch8_224.dino:{tmp_path / 'a.pth'}")
