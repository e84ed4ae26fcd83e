"""Models in folders: the same embeddings as open_clip's own, without a network."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.support.networks.siglip import CONFIG, siglip_config, write_siglip
from zutis_model.clip.dense import check_is_dense
from zutis_model.clip.folders import load_clip_folder
from zutis_model.clip.towers import Clip

PROMPTS = ["a photo of a red bird", "Things, in the RAIN!", "", "blue " * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_siglip(tmp_path_factory.mktemp("siglip"))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


@pytest.fixture(scope="module")
def clip(folder) -> Clip:
    return load_clip_folder(folder, weights_of(folder))


@pytest.fixture(scope="module")
def by_open_clip(folder):
    """open_clip's own model, image transform and tokenizer."""
    import open_clip

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    wide = skimage.data.astronaut()[:200, :450]
    return [Image.fromarray(image) for image in (wide, skimage.data.coffee())]


def test_facts(clip):
    assert (clip.embedding_dim, clip.image_size) == (64, (160, 160))
    assert clip.logit_scale == pytest.approx(np.exp(2))
    assert clip.logit_bias == -1.0
    assert clip.preprocessing == {
        "size": [160, 160],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }


def test_images_are_embedded_as_open_clip_does(clip, by_open_clip, photographs):
    model, transform, _ = by_open_clip
    pixels = torch.stack([transform(image) for image in photographs])
    mine = torch.stack([clip.preprocess(image) for image in photographs])
    torch.testing.assert_close(mine, pixels, rtol=0, atol=0)
    with torch.inference_mode():
        expected = model.encode_image(pixels, normalize=True)
    torch.testing.assert_close(clip.embed_images(mine), expected, rtol=0, atol=1e-5)


def test_texts_are_embedded_as_open_clip_does(clip, by_open_clip):
    model, _, tokenizer = by_open_clip
    torch.testing.assert_close(clip.tokenize(PROMPTS), tokenizer(PROMPTS), rtol=0, atol=0)
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(PROMPTS))
    torch.testing.assert_close(clip.embed_prompts(PROMPTS), expected, rtol=0, atol=1e-5)


def test_no_request_is_made(folder, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    clip = load_clip_folder(folder, weights_of(folder))
    assert clip.embed_prompts(["red"]).shape == (1, 64)


@pytest.mark.parametrize(
    ("prompt", "lost"),
    [
        ("a photo of a red bird", ""),
        ("a photo of the red green blue yellow bird", ""),
        ("of the " * 7 + "bird Peru and Chile", "Peru and Chile"),
        ("many things, in the RAIN! " * 3 + "Peru", "Peru"),
    ],
)
def test_words_beyond_the_towers_own_context_are_named(prompt, lost, clip):
    assert clip.cut_off(prompt) == lost


def test_a_tower_without_patch_tokens_of_its_own_is_not_dense(clip):
    with pytest.raises(ValueError, match="TimmModel has no patch tokens"):
        check_is_dense(clip.model.visual)


def test_scale_and_bias_as_rows_of_one_number_are_read(folder):
    weights = weights_of(folder)
    rows = {name: weights[name].reshape(1) for name in ("logit_scale", "logit_bias")}
    clip = load_clip_folder(folder, {**weights, **rows})
    assert clip.logit_bias == -1.0


def test_another_models_weights_are_refused(folder):
    weights = weights_of(folder)
    del weights["text.ln_final.weight"]
    with pytest.raises(ValueError, match=r"1 missing \(text\.ln_final\.weight\)"):
        load_clip_folder(folder, weights)


def test_a_clip_without_a_bias_has_a_softmax(tmp_path):
    def without_bias(config):
        config["model_cfg"].pop("init_logit_bias")
        config["preprocess_cfg"] = {}

    folder = write_siglip(tmp_path / "clip")
    (folder / "open_clip_config.json").write_text(json.dumps(siglip_config(without_bias)))
    weights = weights_of(folder)
    weights.pop("logit_bias")
    save_file(weights, folder / "open_clip_model.safetensors")
    clip = load_clip_folder(folder, weights)
    assert clip.logit_bias is None
    assert clip.preprocessing["resize_mode"] == "shortest"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="no_such"), "no_such"),
        (lambda c: c["model_cfg"].update(stray=1), "stray"),
        (lambda c: c.pop("model_cfg"), "model_cfg"),
    ],
)
def test_configurations_that_open_clip_cannot_build(change, message, folder, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(siglip_config(change)))
    with pytest.raises(ValueError, match=message) as caught:
        load_clip_folder(tmp_path, weights_of(folder))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_transformers_cannot_read(folder, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match="tokenizer") as caught:
        load_clip_folder(tmp_path, weights_of(folder))
    assert "\n" not in str(caught.value)


def test_code_beside_a_tokenizer_is_not_run(folder, tmp_path):
    def trusting(config):
        config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["trust_remote_code"] = True

    (tmp_path / "open_clip_config.json").write_text(json.dumps(siglip_config(trusting)))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"})
    )
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ValueError, match="tokenizer"):
        load_clip_folder(tmp_path, weights_of(folder))
    assert not ran.exists()
