"""Segmenters: sizes, batches, arbitrary categories, and checkpoints that don't fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from storage.errors.exceptions import ConfigError, VocabularyError, WeightsError
from storage.vocabularies.vocabulary import Category
from storage.weights.registry import parse_clip
from storage.weights.resolving import resolve
from tasks.categories.category_texts import embed_categories
from tasks.prediction.checkpoint import ZutisCheckpoint
from tasks.prediction.dense_segmenter import network_size
from tasks.prediction.segmenter import (
    InstanceSettings,
    MaskClipSegmenter,
    ZutisSegmenter,
    maskclip_segmenter,
    zutis_segmenter,
)
from tasks.stage.models import ModelConfig
from tests.support.files.coloured_images import coloured_image
from tests.support.networks.colour_network import ColourNetwork
from tests.support.networks.fakes import FakeClip

SMALL_CLIP = "ViT-S-32-alt:random:0"


def pixels_of(colour: str, seed: int = 0, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    return np.asarray(coloured_image(colour, seed, size))


@pytest.fixture
def network() -> ColourNetwork:
    return ColourNetwork()


@pytest.fixture
def segmenter(network) -> ZutisSegmenter:
    names = ("blue", "red")
    texts = embed_categories(FakeClip(), [Category(name=name) for name in names])
    return ZutisSegmenter(network, texts, names)


@pytest.fixture
def loaded(monkeypatch, network) -> list[ModelConfig]:
    """Checkpoints load as the colour network, CLIPs as the fake; lists the requested CLIPs."""
    clips: list[ModelConfig] = []

    def load_clip_model(config: ModelConfig) -> FakeClip:
        clips.append(config)
        return FakeClip()

    monkeypatch.setattr("tasks.prediction.segmenter.load_network", lambda *args, **kwargs: network)
    monkeypatch.setattr("tasks.prediction.segmenter.load_clip_model", load_clip_model)
    return clips


TRAINED = ZutisCheckpoint(
    label="model",
    architecture="ViT-S-32-alt",
    state_dict=None,
    clip=SMALL_CLIP,
    clip_digest="random:0",
    categories=("green", "blue"),
    text_embeddings=np.eye(3, 4, dtype=np.float32),
)


def test_labels_and_instances_have_the_size_and_place_of_the_object(segmenter):
    pixels = pixels_of("red", size=(96, 81))
    found = segmenter.segment(pixels)
    is_red = pixels[..., 0] > 128
    assert found.labels.shape == (96, 81)
    assert found.labels.dtype == np.int64
    assert found.instances.category_ids.tolist() == [2]
    for mask in (found.labels == 2, found.instances.masks[0].numpy()):
        assert (mask & is_red).sum() / (mask | is_red).sum() > 0.8


def test_other_names_are_found_without_another_network(network):
    texts = embed_categories(FakeClip(), [Category(name="green")])
    found = ZutisSegmenter(network, texts, ("green",)).segment(pixels_of("green"))
    assert found.instances.category_ids.tolist() == [1]


def test_a_batch_gives_the_results_of_single_images_in_order(segmenter, network):
    sizes = [(48, 40), (64, 48), (48, 40)]
    images = [pixels_of("red", 1, sizes[0]), pixels_of("blue", 2, sizes[1]), pixels_of("blue", 3)]
    together = segmenter.segment_batch(images)
    assert network.batches == [(2, 3, 48, 40), (1, 3, 64, 48)]
    for pixels, found in zip(images, together, strict=True):
        alone = segmenter.segment(pixels)
        assert np.array_equal(found.labels, alone.labels)
        assert torch.equal(found.instances.masks, alone.instances.masks)
        assert torch.equal(found.instances.category_ids, alone.instances.category_ids)


def test_the_network_sees_large_images_smaller_and_results_keep_their_size(network):
    texts = embed_categories(FakeClip(), [Category(name="red")])
    segmenter = ZutisSegmenter(network, texts, ("red",), image_size=64)
    found = segmenter.segment(pixels_of("red", size=(200, 120)))
    assert network.batches == [(1, 3, 64, 38)]
    assert found.labels.shape == (200, 120)
    assert found.instances.masks.shape[1:] == (200, 120)


@pytest.mark.parametrize(
    ("size", "image_size", "seen"),
    [
        ((480, 640), 1024, (480, 640)),
        ((3000, 4000), 1024, (768, 1024)),
        ((3000, 4000), 0, (3000, 4000)),
        ((1025, 100), 1024, (1024, 99)),  # rounded down, as in the reference
        ((16, 4000), 1024, (32, 1024)),
        ((16, 20), 1024, (32, 32)),
    ],
)
def test_network_size(size, image_size, seen):
    assert network_size(*size, image_size) == seen


def test_min_score_leaves_out_the_rest(network):
    texts = embed_categories(FakeClip(), [Category(name="red")])
    score = ZutisSegmenter(network, texts, ("red",)).segment(pixels_of("red")).instances.scores[0]

    def with_min_score(value: float) -> int:
        settings = InstanceSettings(min_score=value)
        segmenter = ZutisSegmenter(network, texts, ("red",), settings=settings)
        return len(segmenter.segment(pixels_of("red")).instances.scores)

    assert with_min_score(float(score)) == 1
    assert with_min_score(float(score) + 1e-3) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_score": 1.5},
        {"threshold": -0.1},
        {"temperature": 0.0},
        {"sigma": float("nan")},
        {"score_threshold": -1.0},
        {"suppression": "soft"},
    ],
)
def test_settings_that_cannot_work_are_named(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"^{name} is"):
        InstanceSettings(**wrong)


def test_pixels_of_another_kind_are_refused(segmenter):
    for wrong in (
        np.zeros((40, 40)),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"pixels must be uint8"):
            segmenter.segment(wrong)


def test_a_full_device_is_reported_with_what_to_reduce(segmenter, network, monkeypatch):
    def forward(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network, "forward", forward)
    with pytest.raises(ConfigError, match=r"1 images of 40 x 48 .*smaller batch"):
        segmenter.segment(pixels_of("red"))


class TestCheckpoints:
    def test_the_categories_of_training_need_no_clip(self, loaded):
        segmenter = zutis_segmenter(TRAINED)
        assert segmenter.categories == ("green", "blue")
        assert not loaded

    def test_names_are_read_by_the_checkpoints_clip(self, loaded):
        segmenter = zutis_segmenter(TRAINED, ["red", "background colour"])
        assert segmenter.categories == ("red", "background colour")
        (clip,) = loaded
        assert (clip.architecture, clip.weights.seed) == ("ViT-S-32-alt", 0)
        found = segmenter.segment(pixels_of("red"))
        assert found.instances.category_ids.tolist() == [1]

    def test_published_ones_speak_with_openais_clip(self, loaded, monkeypatch):
        asked = []

        def resolve_and_note(spec):
            asked.append(str(spec))
            return resolve(parse_clip(SMALL_CLIP))

        monkeypatch.setattr("tasks.stage.models.resolve", resolve_and_note)
        checkpoint = ZutisCheckpoint(
            label="zutis.pt", architecture="ViT-B-16-quickgelu", state_dict=None
        )
        zutis_segmenter(checkpoint, ["red"])
        assert asked == ["ViT-B-16-quickgelu:openai"]

    def test_categories_are_required_if_the_checkpoint_has_none(self, loaded):
        with pytest.raises(VocabularyError, match=r"give categories or a vocabulary"):
            zutis_segmenter(replace(TRAINED, categories=()))

    def test_a_clip_is_required_if_the_checkpoint_names_none(self, loaded):
        with pytest.raises(WeightsError, match=r"doesn't say which CLIP"):
            zutis_segmenter(replace(TRAINED, clip="", clip_digest=""), ["red"])

    def test_a_clip_of_another_architecture_is_refused(self, loaded):
        with pytest.raises(WeightsError, match=r"is of ViT-S-32-alt and .* of ViT-B-32"):
            zutis_segmenter(TRAINED, ["red"], clip="ViT-B-32:random:0")

    def test_a_clip_with_other_weights_is_refused(self, loaded):
        message = r"trained from ViT-S-32-alt:random:0 \(random:0\), not from .*random:1"
        with pytest.raises(WeightsError, match=message):
            zutis_segmenter(TRAINED, ["red"], clip="ViT-S-32-alt:random:1")

    def test_text_embeddings_of_another_width_are_refused(self, loaded):
        wide = np.eye(3, 6, dtype=np.float32)
        with pytest.raises(WeightsError, match=r"embeddings of 4 numbers.*have 6"):
            zutis_segmenter(replace(TRAINED, text_embeddings=wide))

    def test_an_image_size_below_a_patch_is_refused(self, loaded):
        with pytest.raises(ConfigError, match=r"image_size is 8"):
            zutis_segmenter(TRAINED, image_size=8)


class FakeDenseClip(FakeClip):
    """A CLIP whose dense tokens are colours, too."""

    device = torch.device("cpu")

    @staticmethod
    def normalise(images):
        return images / 255


def test_maskclip_makes_instances_of_connected_regions(monkeypatch):
    def tokens(clip, images):
        colours = torch.nn.functional.avg_pool2d(images, 8)
        padded = torch.nn.functional.pad(colours, (0, 0, 0, 0, 0, 1), value=0.1)
        return torch.nn.functional.normalize(padded, dim=1).permute(0, 2, 3, 1)

    monkeypatch.setattr("zutis_model.baselines.maskclip.maskclip_tokens", tokens)
    monkeypatch.setattr(
        "tasks.prediction.segmenter.load_clip_model", lambda config: FakeDenseClip()
    )
    config = ModelConfig(architecture="ViT-S-32-alt", weights=resolve(parse_clip(SMALL_CLIP)))
    segmenter = maskclip_segmenter(config, ["red", "blue"])
    assert isinstance(segmenter, MaskClipSegmenter)
    assert segmenter.untrained

    two = np.concatenate([pixels_of("red"), pixels_of("red", 1), pixels_of("blue", 2)], axis=1)
    found = segmenter.segment(two)
    assert sorted(found.instances.category_ids.tolist()) == [1, 1, 2]
    assert (found.instances.scores > 0.5).all()
    assert torch.equal(found.instances.masks.any(dim=0), torch.from_numpy(found.labels > 0))
