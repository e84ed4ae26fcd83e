"""Training of a small CLIP: the loop, its learning rates, and its batches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from storage.errors.exceptions import ConfigError
from tasks.clip_training.images import CaptionedImage, caption_batches, mirrored
from tasks.clip_training.loop import ClipTrainingConfig, learning_rate, train_clip_model
from tasks.clip_training.phases import Phase, train_in_phases, write_weights
from tasks.clip_training.scores import retrieval_precision, zero_shot_accuracy
from zutis_model.clip.own_architectures import make_tokenizer
from zutis_model.clip.towers import load_clip
from zutis_model.training.contrastive import new_clip

ARCHITECTURE = "made-ViT-8"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 230), "grey": (90,) * 3}


def coloured(name: str, seed: int, size: tuple[int, int] = (40, 48)) -> CaptionedImage:
    noise = np.random.default_rng(seed).integers(-20, 20, (*size, 3))
    pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
    captions = (f"a {name} photo", f"it is {name}")
    return CaptionedImage(
        pixels=pixels, captions=captions, centres=np.zeros((0, 2), dtype=np.float32)
    )


@pytest.fixture(scope="module")
def images() -> list[CaptionedImage]:
    return [coloured(name, seed) for seed, name in enumerate(itertools.chain(*[COLOURS] * 8))]


PHASES = (
    Phase(steps=30, share=0.8, image_size=16, batch_size=8, learning_rate=1e-3),
    Phase(steps=2, share=0.2, image_size=128, batch_size=4, learning_rate=1e-4),
)


def trained(images, seed=0, phases=PHASES):
    losses = []
    weights = train_in_phases(
        images,
        phases,
        architecture=ARCHITECTURE,
        seed=seed,
        on_step=lambda phase, step: losses.append(step.loss),
    )
    return weights, losses


@pytest.fixture(scope="module")
def colour_clip(images):
    return trained(images)


@pytest.mark.slow
def test_it_learns_colours(colour_clip, tmp_path):
    weights, losses = colour_clip
    assert len(losses) == 32
    assert np.mean(losses[25:30]) < 0.8 * np.mean(losses[:3])
    clip = load_clip(ARCHITECTURE, weights)
    texts = torch.stack(
        [clip.ensemble(clip.embed_prompts([f"a {name} photo"])) for name in COLOURS]
    )
    unseen = [coloured(name, 1000, (60, 60)) for name in COLOURS]
    from PIL import Image

    inputs = torch.stack([clip.preprocess(Image.fromarray(one.pixels)) for one in unseen])
    assert (clip.embed_images(inputs) @ texts.T).argmax(dim=1).tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(images):
    short = (Phase(steps=3, share=1, image_size=16, batch_size=8, learning_rate=1e-3),)
    (one, losses), (same, same_losses) = (trained(images, 5, short) for _ in range(2))
    assert losses == same_losses
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    other, _ = trained(images, 6, short)
    assert not torch.equal(one["visual.proj"], other["visual.proj"])


@pytest.mark.slow
def test_weights_are_written_in_half_precision(colour_clip, tmp_path):
    from storage.weights.state_dicts import load_state_dict

    write_weights(colour_clip[0], tmp_path / "new" / "clip.safetensors")
    read = load_state_dict(tmp_path / "new" / "clip.safetensors")
    assert {tensor.dtype for tensor in read.values()} == {torch.float16}
    load_clip(ARCHITECTURE, read)


def test_time_ends_a_training(images):
    steps = []
    model = new_clip(ARCHITECTURE, 0, image_size=16)
    config = ClipTrainingConfig(steps=200, max_seconds=0.05)
    batches = caption_batches(images, 4, 16, seed=0)
    train_clip_model(model, make_tokenizer(ARCHITECTURE), batches, config, steps.append)
    assert 1 <= len(steps) < 150
    assert steps[-1].done == 1


def test_a_loss_that_is_not_finite_ends_it(images):
    model = new_clip(ARCHITECTURE, 0, image_size=16)
    with torch.no_grad():
        model.visual.proj.fill_(math.inf)
    with pytest.raises(ConfigError, match="smaller learning_rate"):
        train_clip_model(
            model,
            make_tokenizer(ARCHITECTURE),
            caption_batches(images, 4, 16, seed=0),
            ClipTrainingConfig(steps=2),
            lambda step: None,
        )


def test_the_rate_rises_and_falls():
    config = ClipTrainingConfig(steps=100, learning_rate=0.5, warmup_steps=10)
    rates = [learning_rate(config, step, step / 100) for step in range(101)]
    assert rates[0] < 0.06
    assert max(rates) == pytest.approx(0.5, rel=0.05)
    assert rates.index(max(rates)) in (10, 11)
    assert all(a > b for a, b in itertools.pairwise(rates[11:]))
    assert rates[100] == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("learning_rate", 0.0), ("warmup_steps", -1), ("precision", "float64")],
)
def test_settings_that_cant_work(field, value):
    with pytest.raises(ConfigError, match=field):
        ClipTrainingConfig(**{"steps": 1, field: value})


def test_no_phase(images):
    with pytest.raises(ConfigError, match="one phase"):
        trained(images, phases=())


# --- images -----------------------------------------------------------------------------------


def test_batches_show_every_image_once_in_a_round(images):
    batches = caption_batches(images, 8, 16, seed=3)
    for _ in range(2):
        captions = []
        for _ in range(4):
            pixels, some = next(batches)
            assert pixels.shape == (8, 16, 16, 3)
            assert pixels.dtype == np.uint8
            captions += some
        for name in COLOURS:
            assert sum(name in caption for caption in captions) == 8


def test_batches_depend_on_the_seed_alone(images):
    one, same, other = (next(caption_batches(images, 8, 16, seed)) for seed in (3, 3, 4))
    assert one[1] == same[1]
    np.testing.assert_array_equal(one[0], same[0])
    assert not np.array_equal(one[0], other[0])


def test_too_few_images(images):
    with pytest.raises(ValueError, match="batch of 64"):
        next(caption_batches(images, 64, 16, seed=0))


def test_objects_of_the_caption_stay_in_the_crop():
    """A red dot in a corner of a long image, in which most random parts would miss it."""
    pixels = np.full((40, 120, 3), 255, dtype=np.uint8)
    pixels[30:38, 2:10, 1:] = 0
    image = CaptionedImage(
        pixels=pixels,
        captions=("a dot on the left",),
        centres=np.array([[34, 6]], dtype=np.float32),
    )
    batches = caption_batches([image] * 8, 8, 32, seed=0)
    for _ in range(5):
        for view, caption in zip(*next(batches), strict=True):
            red = view[..., 0].astype(int) - view[..., 1]
            assert red.max() > 100
            if red.max(axis=0).argmax() > 16:
                assert caption == "a dot on the right"


def test_crops_have_the_requested_size():
    """An image that grows brighter to the right: how much of it a view shows can be read off."""
    pixels = np.repeat(np.linspace(0, 255, 100)[None, :, None], 100, axis=0).repeat(3, axis=2)
    image = CaptionedImage(
        pixels=pixels.astype(np.uint8),
        captions=("grey",),
        centres=np.zeros((0, 2), dtype=np.float32),
    )
    for crop in ((0.3, 0.4), (0.9, 1.0)):
        views, _ = next(caption_batches([image] * 16, 16, 32, seed=0, crop=crop))
        rows = views[:, 16, :, 0].astype(float)
        shown = (rows.max(axis=1) - rows.min(axis=1)) / 255
        assert (shown > 0.75 * crop[0]).all()
        assert (shown < 1.3 * crop[1]).all()


def test_bare_names_are_chosen_often():
    image = CaptionedImage(
        pixels=np.zeros((20, 20, 3), dtype=np.uint8),
        captions=("a star", *(f"a red star on paper {number}" for number in range(7))),
        centres=np.zeros((0, 2), dtype=np.float32),
    )
    _, captions = next(caption_batches([image] * 400, 400, 16, seed=0))
    assert 0.5 < captions.count("a star") / 400 < 0.65
    assert len(set(captions)) == 8


def test_mirrored_captions():
    assert mirrored("a key to the left of a cup") == "a key to the right of a cup"
    assert mirrored("a bright left bell, right?") == "a bright right bell, left?"


# --- scores -------------------------------------------------------------------------------------


def test_scores_by_hand():
    shows = np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    cosines = np.array([[9, 1], [2, 3], [1, 4], [8, 2], [7, 5]], dtype=np.float32)
    assert zero_shot_accuracy(cosines, shows) == pytest.approx(2 / 3)
    np.testing.assert_allclose(retrieval_precision(cosines, shows, 2), [1.0, 0.5])
    np.testing.assert_allclose(retrieval_precision(cosines, shows, 3), [2 / 3, 1 / 3])
    assert math.isnan(zero_shot_accuracy(cosines[4:], shows[4:]))


def test_objects_are_shown_among_faint_surroundings_where_that_is_asked_for():
    """A blue square on red: the square keeps its colour, the red turns grey."""
    pixels = np.zeros((60, 60, 3), dtype=np.uint8)
    pixels[..., 0] = 200
    pixels[20:40, 20:40] = (0, 0, 200)
    image = CaptionedImage(
        pixels=pixels,
        captions=("a square on red", "a square"),
        centres=np.array([[30, 30]], dtype=np.float32),
    )
    views, captions = next(caption_batches([image] * 16, 16, 32, seed=0, regions=1.0))
    assert set(captions) == {"a square"}, "what is said of the background isn't seen"
    colours = views.astype(int)
    assert (colours[:, 16, 16, 2] - colours[:, 16, 16, 0] > 100).all()
    corners = colours[:, ::31, ::31].reshape(-1, 3)
    assert (np.abs(corners[:, 0] - corners[:, 1]) < 40).all()

    nothing = CaptionedImage(pixels=pixels, captions=("red",), centres=image.centres[:0])
    views, _ = next(caption_batches([nothing] * 16, 16, 32, seed=0, regions=1.0))
    assert (views[..., 0] > 100).mean() > 0.5, "without an object there is no region"
