"""Checkpoints by a user's spec."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from storage.errors.exceptions import ConfigError, WeightsError
from tasks.prediction.checkpoint import ZutisCheckpoint, load_network, open_checkpoint

DESCRIPTION = {
    "architecture": "ViT-S-32-alt",
    "num_queries": 5,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "clip": "ViT-S-32-alt:random:0 (untrained)",
    "clip_digest": "random:0",
    "categories": ["cat", "dog"],
    "untrained": True,
}


def published_names() -> dict[str, torch.Tensor]:
    """The tensors of a published checkpoint that identify it."""
    return {
        "query_embed": torch.zeros(100, 768),
        "encoder.class_embedding": torch.zeros(768),
        "encoder.conv1.weight": torch.zeros(768, 3, 32, 32),
        "encoder.positional_embedding": torch.zeros(50, 768),
        "encoder.proj": torch.zeros(768, 512),
    } | {f"encoder.transformer.resblocks.{i}.ln_1.bias": torch.zeros(1) for i in range(12)}


@pytest.fixture
def artifact(tmp_path) -> Path:
    folder = tmp_path / "trained"
    folder.mkdir()
    save_file({"query_embed": torch.zeros(5, 384)}, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(DESCRIPTION))
    np.save(folder / "text_embeddings.npy", np.zeros((3, 256), np.float32))
    return folder


def change(folder: Path, **changes: object) -> None:
    (folder / "model.json").write_text(json.dumps(DESCRIPTION | changes))


@pytest.mark.parametrize("named", ["folder", "file"])
def test_an_artifact_says_all_that_is_to_be_known(artifact, named):
    found = open_checkpoint(artifact if named == "folder" else artifact / "model.safetensors")
    assert found.architecture == "ViT-S-32-alt"
    assert found.num_heads == 4
    assert found.categories == ("cat", "dog")
    assert found.default_clip == "ViT-S-32-alt:random:0"
    assert found.clip_digest == "random:0"
    assert found.label.endswith("(untrained)")
    assert found.text_embeddings is not None
    assert found.text_embeddings.shape == (3, 256)


def test_a_published_file_says_its_architecture_and_openais_clip_belongs_to_it(tmp_path):
    path = tmp_path / "zutis.pt"
    torch.save(published_names(), path)
    found = open_checkpoint(path)
    assert found.architecture == "ViT-B-32-quickgelu"
    assert found.default_clip == "ViT-B-32-quickgelu:openai"
    assert not found.categories
    assert not found.untrained


def test_a_file_of_another_model_is_named(tmp_path):
    path = tmp_path / "selfmask.pt"
    torch.save({"query_embed": torch.zeros(20, 384), "encoder.blocks.0.x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"is SelfMask .*; a ZUTIS network is needed"):
        open_checkpoint(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"of no known model"):
        open_checkpoint(path)


def test_trials(monkeypatch):
    found = open_checkpoint("ViT-S-32-alt:random:7")
    assert (found.architecture, found.seed, found.untrained) == ("ViT-S-32-alt", 7, True)
    assert found.default_clip == "ViT-S-32-alt:random:7"


def test_a_missing_checkpoint_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"no checkpoint .*nowhere.*coco_vit_b_16"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"holds no model\.json"):
        open_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match=r"zutis weights fetch coco_vit_b_16"):
        open_checkpoint("coco_vit_b_16")


def test_an_artifact_that_does_not_agree_with_itself_is_refused(artifact):
    change(artifact, num_queries=100)
    with pytest.raises(WeightsError, match=r"has 5 queries and model.json says 100"):
        open_checkpoint(artifact)
    change(artifact, categories=["cat"])
    with pytest.raises(WeightsError, match=r"\[3, 256\] instead of one row .* 1 categories"):
        open_checkpoint(artifact)
    change(artifact, architecture=None)
    with pytest.raises(WeightsError, match=r"lacks architecture"):
        open_checkpoint(artifact)
    (artifact / "model.json").write_text("{")
    with pytest.raises(WeightsError, match=r"can't be read"):
        open_checkpoint(artifact)


def test_weights_that_do_not_load_name_keys(artifact):
    with pytest.raises(WeightsError, match=r"doesn't load as ZUTIS with ViT-S-32-alt: .* missing"):
        load_network(open_checkpoint(artifact), device="cpu", precision="float32")


def test_devices_and_precisions_that_are_not_there():
    checkpoint = ZutisCheckpoint(label="x", architecture="ViT-S-32-alt", state_dict=None)
    with pytest.raises(ConfigError, match=r"no such GPU"):
        load_network(checkpoint, device="cuda:99", precision="float32")
    with pytest.raises(ConfigError, match=r"precision is 'half'"):
        load_network(checkpoint, device="cpu", precision="half")
