"""`zutis demo-train clip`: a tiny training from images to figures, and the shipped model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.demo_training.clip import ClipFigures, made_images, measure_clip, train_clip
from made_world.things.kinds import BY_NAME, CLUTTER, LOOK_ALIKES, words_of
from storage.errors.exceptions import ConfigError
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.weights.shipped import SHIPPED
from tasks.clip_training.phases import Phase
from zutis_model.clip.own_architectures import make_tokenizer

TINY = (Phase(steps=2, share=1, image_size=128, batch_size=4, learning_rate=1e-4),)


@pytest.mark.slow
def test_images_are_the_same_whoever_makes_them():
    one, other = (list(made_images(3, 130, workers)) for workers in (1, 2))
    assert len(one) == len(other) == 130
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
        assert a.captions == b.captions
    assert len({caption for picture in one for caption in picture.captions}) > 500
    assert any(len(picture.centres) == 0 for picture in one)
    assert any(len(picture.centres) > 3 for picture in one)


@pytest.mark.slow
def test_every_other_image_may_be_of_the_hard_world():
    images = list(made_images(3, 100, 1, hard=True))
    captions = [" ".join(image.captions) for image in images]
    alike = [any(name in text for name in LOOK_ALIKES) for text in captions]
    assert not any(alike[::2])
    assert sum(alike[1::2]) > 12
    assert any(" bat" in text for text in captions)
    assert all(len(image.centres) <= 6 for image in images)


@pytest.mark.slow
def test_training_ends_with_a_file_and_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "flows.demo_training.clip.measure_clip",
        lambda out, architecture, **kw: measure_clip(
            out, architecture, corpus=40, scenes=2, at=3, **kw
        ),
    )
    out = tmp_path / "clip.safetensors"
    figures = train_clip(out, images=12, workers=1, precision="float32", phases=TINY)
    assert out.stat().st_size < 6e6
    assert isinstance(figures, ClipFigures)
    assert 0 <= figures.precision <= 1
    assert 0 <= figures.maskclip_iou <= 1
    printed = capsys.readouterr().out
    told = [line for line in printed.splitlines() if line.endswith(" …")]
    assert told[:2] == ["Drawing images …", "training …"]
    assert "12 images made" in printed
    assert "retrieval precision@3" in printed


@pytest.mark.slow
def test_training_goes_on_from_weights_and_is_measured_on_the_hard_world_too(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        "flows.demo_training.clip.measure_clip",
        lambda out, architecture, **kw: measure_clip(
            out, architecture, corpus=40, scenes=2, at=3, **kw
        ),
    )
    shipped = SHIPPED["made-ViT-8:demo"].path
    figures = train_clip(
        tmp_path / "clip.safetensors", images=12, workers=1, precision="float32", phases=TINY,
        start=shipped,
    )  # fmt: skip
    assert figures.accuracy > 0.5, "two steps at a low rate don't undo what was learned"
    assert "On images of the hard world: zero-shot" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"out": "clip.pt"}, "safetensors"),
        ({"images": 0}, "images"),
        ({"seed": -1}, "seed"),
        ({"minutes": -1.0}, "minutes"),
        ({"start": Path("nowhere.safetensors")}, "nowhere.safetensors holds no weights"),
    ],
)
def test_settings_that_cant_work(settings, expected, tmp_path):
    out = tmp_path / settings.pop("out", "clip.safetensors")
    with pytest.raises(ConfigError, match=expected):
        train_clip(out, **settings)


@pytest.mark.slow
def test_no_two_words_of_the_made_world_share_an_id():
    tokenizer = make_tokenizer("made-ViT-8")
    pictures = [*made_images(0, 200, 1), *made_images(0, 300, 1, hard=True)]
    captions = [each for picture in pictures for each in picture.captions]
    names = words_of([kind for kind in BY_NAME if kind not in CLUTTER])
    prompts = [template.format(name) for template in TEMPLATES for name in names]
    words = {
        token
        for text in (*captions, *prompts, "background")
        for token in tokenizer._words.encode(text)
    }
    ids = {token % (tokenizer.vocab_size - 3) for token in words}
    assert len(words) > 120
    assert len(ids) == len(words)


@pytest.mark.slow
def test_the_shipped_model_knows_the_made_world():
    figures = measure_clip(SHIPPED["made-ViT-8:demo"].path, corpus=160, scenes=4, at=3)
    assert figures.accuracy > 0.9
    assert figures.precision > 0.95
