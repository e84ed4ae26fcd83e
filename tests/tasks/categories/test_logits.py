"""Probabilities from cosines: CLIP's softmax, and SigLIP's sigmoid as in open_clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.categories.logits import Logits
from tests.support.networks.siglip import write_siglip

COSINES = np.array([[0.3, 0.1, -0.2], [0.0, 0.0, 0.0]])


def test_a_softmax_shares_one_among_the_texts() -> None:
    found = Logits(8.0).probabilities(8.0 * COSINES)
    expected = torch.softmax(torch.from_numpy(8.0 * COSINES), dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_sigmoid_asks_of_each_text_by_itself() -> None:
    logits = Logits(100.0, -15.0)
    images, texts = np.eye(2), np.array([[0.2, 0.98], [0.1, 0.99], [0.15, 0.9]])
    found = logits.probabilities(logits(images, texts))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(15 - 100 * images @ texts.T)), rtol=1e-12)
    np.testing.assert_array_equal(
        found[:, :1], logits.probabilities(logits(images, texts[:1])), "others move nothing"
    )


def test_extremes_are_0_and_1_without_warnings() -> None:
    with np.errstate(all="raise", under="ignore"):
        found = Logits(1.0, 0.0).probabilities(np.array([[-1000.0, 1000.0]]))
    assert found.tolist() == [[0.0, 1.0]]


def test_probabilities_are_those_of_open_clip(tmp_path) -> None:
    import open_clip
    from safetensors.torch import load_file

    from zutis_model.clip.folders import load_clip_folder

    folder = write_siglip(tmp_path)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    pixels = torch.rand(3, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    names = ["a red bird", "rain", "many things"]
    with torch.inference_mode():
        expected = model.eval().get_logits(pixels, tokenizer(names))[0].sigmoid().numpy()

    clip = load_clip_folder(folder, load_file(folder / "open_clip_model.safetensors"))
    logits = Logits(clip.logit_scale, clip.logit_bias)
    texts = torch.stack([clip.ensemble(clip.embed_prompts([name])) for name in names])
    images = clip.embed_images(pixels)
    found = logits.probabilities(logits(images.double().numpy(), texts.double().numpy()))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.sum(axis=1) != pytest.approx(1.0)
