"""Training of SelfMask: it learns a toy task with and without masks, deterministically."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from storage.errors.exceptions import ConfigError, CorpusError
from storage.weights.state_dicts import load_state_dict
from tasks.saliency_training.patch_features import load_patch_features
from tasks.saliency_training.scores import mean_iou
from tasks.saliency_training.training import (
    SelfMaskTrainingConfig,
    adaptable_selfmask,
    learning_rate,
    new_selfmask,
    rate_of,
    salient_masks,
    train_selfmask,
    write_selfmask,
)
from tasks.saliency_training.votes import VoteConfig
from zutis_model.saliency.selfmask import load_selfmask

CONFIG = partial(
    SelfMaskTrainingConfig, batch_size=8, image_size=48, learning_rate=2e-3, warmup_steps=10
)
TINY = {"width": 32, "encoder_layers": 2, "decoder_layers": 1, "queries": 3, "image_size": 48}


def image(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of a bright box on a noisy dark background, and its mask."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (48, 56, 3)).astype(np.uint8)
    mask = np.zeros((48, 56), dtype=bool)
    top, left = random.integers(4, 20, 2)
    rows, columns = random.integers(12, 24, 2)
    mask[top : top + rows, left : left + columns] = True
    pixels[mask] += np.array([150, 90, 20], dtype=np.uint8)
    return pixels, mask


IMAGES, MASKS = zip(*[image(seed) for seed in range(24)], strict=True)
UNSEEN, TRUTHS = zip(*[image(seed) for seed in range(100, 112)], strict=True)


def trained(steps=60, masks=MASKS, seed=0, **options):
    network, taken = new_selfmask(**TINY, seed=seed), []
    train_selfmask(network, IMAGES, masks, CONFIG(steps=steps, seed=seed), taken.append, **options)
    return network, taken


def iou(network) -> float:
    return mean_iou([soft > 0.5 for soft in salient_masks(network, UNSEEN)], TRUTHS)


def test_it_learns_from_masks():
    network, taken = trained()
    assert [each.step for each in taken] == list(range(1, 61))
    assert taken[-1].done == 1
    assert np.mean([each.dice for each in taken[-5:]]) < 0.4 * taken[0].dice
    assert iou(network) > 0.6 > 2 * iou(new_selfmask(**TINY, seed=0).eval())
    assert not network.training


def test_it_learns_without_masks():
    network, _ = trained(
        masks=None, sources=[load_patch_features("colours")], votes=VoteConfig(patches=120)
    )
    assert iou(network) > 0.6


def test_the_same_seed_gives_the_same_weights():
    (one, losses), (same, same_losses), (other, _) = (trained(3, seed=seed) for seed in (1, 1, 2))
    assert losses == same_losses
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name
    assert not torch.equal(one.query_embed, other.query_embed)


def test_images_without_anything_are_left_out():
    empty = [np.zeros_like(mask) for mask in MASKS[:20]] + list(MASKS[20:])
    _, with_empty = trained(2, masks=empty)
    network, taken = new_selfmask(**TINY, seed=0), []
    train_selfmask(network, IMAGES[20:], MASKS[20:], CONFIG(steps=2), taken.append)
    assert taken == with_empty


def test_there_is_nothing_to_learn():
    with pytest.raises(CorpusError, match="none of the images has a salient object"):
        trained(masks=[np.zeros_like(mask) for mask in MASKS])
    with pytest.raises(ConfigError, match="one source"):
        trained(masks=None)


def test_a_trained_network_is_adapted(tmp_path):
    from storage.weights.registry import parse_selfmask
    from storage.weights.resolving import resolve
    from tasks.stage.models import ModelConfig, load_selfmask_model

    write_selfmask(trained(2)[0].state_dict(), tmp_path / "small.safetensors")
    weights = resolve(parse_selfmask(str(tmp_path / "small.safetensors")))
    config = ModelConfig(architecture="selfmask", weights=weights)
    network = adaptable_selfmask(config)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train_selfmask(network, IMAGES, MASKS, CONFIG(steps=1), lambda step: None)
    assert not torch.equal(network.query_embed, before["query_embed"])
    shared = load_selfmask_model(config).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.items())


def test_weights_are_written_in_half_precision(tmp_path):
    network = new_selfmask(**TINY, seed=0).eval()
    write_selfmask(network.state_dict(), tmp_path / "new" / "selfmask.safetensors")
    read = load_state_dict(tmp_path / "new" / "selfmask.safetensors")
    assert {tensor.dtype for tensor in read.values()} == {torch.float16}
    loaded = load_selfmask(read)
    assert loaded.sizes == network.sizes
    (one,), (other,) = salient_masks(network, UNSEEN[:1]), salient_masks(loaded, UNSEEN[:1])
    np.testing.assert_allclose(one, other, atol=0.02)


def test_masks_have_the_images_size():
    network = new_selfmask(**TINY, seed=0).eval()
    for size in (0, 32, 96):
        for soft in salient_masks(network, UNSEEN[:2], size):
            assert soft.shape == (48, 56)
            assert soft.dtype == np.float32
            assert 0 <= soft.min() <= soft.max() <= 1


def test_time_ends_a_training():
    taken = []
    config = CONFIG(steps=100_000, max_seconds=0.2)
    train_selfmask(new_selfmask(**TINY, seed=0), IMAGES, MASKS, config, taken.append)
    assert 1 <= len(taken) < 1000
    assert taken[-1].done == 1


def test_a_loss_that_is_not_finite_ends_it():
    network = new_selfmask(**TINY, seed=0)
    with torch.no_grad():
        network.query_embed.fill_(math.nan)
    with pytest.raises(ConfigError, match="smaller learning_rate"):
        train_selfmask(network, IMAGES, MASKS, CONFIG(steps=2), lambda step: None)


def test_gradients_are_shortened():
    def moved(limit):
        network = new_selfmask(**TINY, seed=0)
        train_selfmask(
            network, IMAGES, MASKS, CONFIG(steps=1, max_gradient_norm=limit), lambda step: None
        )
        return sum(float(p.grad.norm() ** 2) for p in network.parameters()) ** 0.5

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(0.0) > 0.1


def test_the_rate_rises_and_falls():
    config = SelfMaskTrainingConfig(steps=100, learning_rate=0.5, warmup_steps=10)
    rates = [learning_rate(config, step, step / 100) for step in range(101)]
    assert rates[0] < 0.06
    assert rates.index(max(rates)) in (10, 11)
    assert all(a > b for a, b in itertools.pairwise(rates[11:]))
    assert rates[100] == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0), ("batch_size", 0), ("learning_rate", math.inf), ("warmup_steps", -1),
        ("image_size", 100), ("image_size", 8), ("ranking_weight", -1.0), ("seed", -1),
    ],
)  # fmt: skip
def test_settings_that_cant_work(field, value):
    with pytest.raises(ConfigError, match=field):
        SelfMaskTrainingConfig(**{"steps": 1, field: value})


def test_sizes_that_cant_work():
    with pytest.raises(ConfigError, match="width must be a multiple of 32"):
        new_selfmask(**{**TINY, "width": 40}, seed=0)


def test_the_poly_schedule_falls_from_the_first_step_to_nothing():
    config = SelfMaskTrainingConfig(steps=100, learning_rate=0.5, warmup_steps=0, schedule="poly")
    rates = [rate_of(config, step, step / 100) for step in range(101)]
    assert rates[0] == 0.5
    assert rates[50] == pytest.approx(0.5 * 0.5**0.9)
    assert rates[100] == 0
    with pytest.raises(ConfigError, match="schedule is 'step': choose cosine or poly"):
        SelfMaskTrainingConfig(steps=1, schedule="step")
