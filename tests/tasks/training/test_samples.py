"""Training samples: the recipe's distributions, agreement with the reference, determinism."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch
from pycocotools import mask as coco
from torchvision.transforms import ColorJitter, RandomApply, RandomGrayscale

from benchmarks.reference import training_samples
from benchmarks.reference.training_samples import StoredSample, make_sample
from storage.errors.exceptions import ArtifactError, ConfigError
from storage.shards.samples import ShardSamples
from storage.shards.writing import Sample
from tasks.training.batches import batches_from
from tasks.training.processes import Processes
from tasks.training.samples import (
    SampleRecipe,
    TrainingBatch,
    TrainingSamples,
    collate,
)
from tests.support.files.small_datasets import stored_sample, write_dataset
from zutis_model.layers.normalisation import normalise
from zutis_model.training.photometric import ColourContext, jitter_colours, make_grey

CATEGORIES = {1: "zebra", 2: "red kite", 3: "canoe", 4: "teapot"}
LABELS = [1, 1, 1, 1, 1, 1, 3, 3, 4]  # none of a red kite
STORED = [stored_sample(seed, label) for seed, label in enumerate(LABELS)]
SMALL = SampleRecipe(crop=64)
# No augmentation of colours and no flip.
PLAIN = SampleRecipe(crop=64, flip=0, jitter_probability=0, greyscale=0, blur=0)
MANY = 3000
# With the seed fixed, a test of a distribution passes always or never; this is how unlikely a
# right one would have been to fail.
UNLIKELY = 1e-3


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSamples:
    folder = tmp_path_factory.mktemp("data")
    return ShardSamples.open(write_dataset(folder, STORED, CATEGORIES))


@pytest.fixture(scope="module")
def many_draws(shards):
    samples = TrainingSamples(shards, SampleRecipe(), 0, MANY)
    return [samples.draws(i) for i in range(MANY)]


@pytest.fixture(scope="module")
def objects(many_draws):
    return [draw for draws in many_draws for draw in draws]


def samples_of(shards: ShardSamples, recipe: SampleRecipe = SMALL, seed: int = 0, length: int = 12):
    return TrainingSamples(shards, recipe, seed, length)


def dataset_of(folder: Path, *stored: Sample, categories=CATEGORIES) -> ShardSamples:
    return ShardSamples.open(write_dataset(folder, stored, categories))


def load(samples: TrainingSamples, workers: int, batch: int) -> list[TrainingBatch]:
    settings = {"first_iteration": 0, "iterations": len(samples) // batch, "batch_size": batch}
    alone = Processes()
    return list(batches_from(samples, collate, processes=alone, workers=workers, **settings))


def assert_equal(a: TrainingBatch, b: TrainingBatch) -> None:
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.semantic_masks, b.semantic_masks)
    for name in ("instance_masks", "category_ids"):
        for one, other in zip(getattr(a, name), getattr(b, name), strict=True):
            assert torch.equal(one, other)


def assert_uniform(values, low: float, high: float) -> None:
    assert scipy.stats.kstest(values, scipy.stats.uniform(low, high - low).cdf).pvalue > UNLIKELY


def assert_share(count: int, total: int, probability: float) -> None:
    assert scipy.stats.binomtest(count, total, probability).pvalue > UNLIKELY


# Determinism and structure


def test_shapes_and_types(shards):
    sample = samples_of(shards)[3]
    n = len(samples_of(shards).draws(3))
    assert (sample.image.shape, sample.image.dtype) == ((3, 64, 64), torch.float32)
    assert (sample.semantic.shape, sample.semantic.dtype) == ((64, 64), torch.uint8)
    assert (sample.instances.shape, sample.instances.dtype) == ((n, 64, 64), torch.bool)
    assert (sample.category_ids.shape, sample.category_ids.dtype) == ((n,), torch.int64)
    batch = collate([sample, samples_of(shards)[4]])
    assert (batch.images.shape, batch.images.dtype) == ((2, 3, 64, 64), torch.float32)
    assert (batch.semantic_masks.shape, batch.semantic_masks.dtype) == ((2, 64, 64), torch.int64)
    assert batch.instance_masks[0] is sample.instances
    assert batch.category_ids[0] is sample.category_ids
    assert batch.ignore_index == sample.ignore_index == 255


def test_labels_and_instances_agree(shards):
    samples = samples_of(shards, length=30)
    for i in range(30):
        sample = samples[i]
        assert sample.instances.sum(dim=0).max() <= 1
        painted = torch.zeros(64, 64, dtype=torch.int64)
        for mask, label in zip(sample.instances, sample.category_ids, strict=True):
            painted[mask] = label
        semantic = sample.semantic.to(torch.int64)
        assert torch.equal(torch.where(semantic == 255, 0, semantic), painted)


def test_label_maps_of_16_bits(tmp_path):
    many = {number: f"thing {number}" for number in range(1, 301)}
    shards = dataset_of(tmp_path, stored_sample(0, 300), categories=many)
    sample = samples_of(shards, replace(PLAIN, max_scale=0.3))[0]
    assert (sample.semantic.dtype, sample.ignore_index) == (torch.int32, 65_535)
    assert set(sample.semantic.unique().tolist()) == {0, 300, 65_535}
    assert collate([sample]).semantic_masks.max() == 65_535


def test_the_crop_outside_the_first_image_has_its_mean_colour_and_is_ignored(shards):
    recipe = replace(PLAIN, max_objects=1, min_scale=0.4, max_scale=0.4)
    sample = samples_of(shards, recipe)[0]
    filled = sample.semantic == 255
    assert filled.sum() == 64 * 64 - 38 * 51
    [colour] = sample.image[:, filled].unique(dim=1).T
    mean = sample.image[:, ~filled].mean(dim=1)
    assert (colour - mean).abs().max() < 0.03  # 1.5 of 255 levels, of which one is cut off


def test_objects_are_pasted_whole(tmp_path):
    mask = np.zeros((20, 30), np.bool_)
    mask[4:15, 6:29] = True  # with a hole, so that the mask and not its box is pasted
    mask[7:9, 9:12] = False
    shards = dataset_of(tmp_path, stored_sample(0, 1, (20, 30), mask))
    recipe = replace(PLAIN, min_objects=2, max_objects=2, min_scale=1)
    samples = samples_of(shards, recipe, length=20)
    image = shards.decode_image(0, shards.read(0).jpeg, least=(20, 30))
    expected = normalise(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    for i in range(20):
        sample = samples[i]
        assert torch.equal(sample.image[:, sample.instances[1]], expected[:, mask])


def test_an_object_that_its_crop_does_not_show_is_empty(tmp_path):
    mask = np.zeros((200, 200), np.bool_)
    mask[:3, :3] = True
    shards = dataset_of(tmp_path, stored_sample(0, 1, (200, 200), mask))
    recipe = replace(PLAIN, min_objects=3, max_objects=3, min_scale=1)
    sample = samples_of(shards, recipe)[0]
    assert sample.instances.shape[0] == 3
    assert not sample.instances.any()
    assert sample.category_ids.tolist() == [1, 1, 1]


# Always the same


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(shards, workers):
    samples = samples_of(shards, length=8)
    expected, found = load(samples, 0, 2), load(samples, workers, 2)
    assert len(found) == 4
    for a, b in zip(expected, found, strict=True):
        assert_equal(a, b)


def test_any_batch_size_and_order_gives_the_same_samples(shards):
    samples = samples_of(shards, length=6)
    backwards = {i: collate([samples[i]]) for i in reversed(range(6))}
    for number, batch in enumerate(load(samples, 0, 3)):
        three = [backwards[i] for i in range(3 * number, 3 * number + 3)]
        assert torch.equal(batch.images, torch.cat([one.images for one in three]))


def test_a_longer_one_begins_with_the_same(shards):
    longer = samples_of(shards, length=1000)
    assert [longer.draws(i) for i in range(12)] == [samples_of(shards).draws(i) for i in range(12)]


def test_another_seed_gives_other_samples(shards):
    assert samples_of(shards, seed=1).draws(0) != samples_of(shards, seed=0).draws(0)
    assert samples_of(shards, seed=1).draws(0) != samples_of(shards, seed=0).draws(1)


def test_it_can_be_sent_to_workers_that_are_spawned(shards):
    copy = pickle.loads(pickle.dumps(samples_of(shards)))
    assert torch.equal(copy[2].image, samples_of(shards)[2].image)


@pytest.mark.parametrize(
    ("change", "changed"),
    [({"flip": 0.9}, "flip"), ({"jitter_probability": 0.1}, "jitter"), ({"blur": 1.0}, "sigma"),
     ({"max_scale": 0.5}, "scale"), ({"greyscale": 1.0}, "greyscale")],
)  # fmt: skip
def test_a_change_of_the_recipe_changes_nothing_else(shards, change, changed):
    before = samples_of(shards, length=50)
    after = samples_of(shards, replace(SMALL, **change), length=50)
    differences = set()
    for i in range(50):
        for a, b in zip(before.draws(i), after.draws(i), strict=True):
            differences |= {name for name, value in asdict(a).items() if asdict(b)[name] != value}
    assert differences == {changed}


def test_a_sample_number_out_of_range(shards):
    for i in (-1, 12):
        with pytest.raises(IndexError):
            samples_of(shards)[i]
    assert len(list(samples_of(shards, length=2))) == 2


# Distributions of the recipe


def test_numbers_of_objects(many_draws):
    counts = Counter(len(draws) for draws in many_draws)
    assert sorted(counts) == list(range(1, 11))
    assert scipy.stats.chisquare([counts[n] for n in range(1, 11)]).pvalue > UNLIKELY


def test_one_category_in_half_of_the_samples(many_draws):
    # Of several objects from all samples, all are of one category with this probability.
    shares = np.array([6, 2, 1]) / 9
    large = [draws for draws in many_draws if len(draws) >= 5]
    expected = np.mean([0.5 + 0.5 * (shares ** len(draws)).sum() for draws in large])
    alone = [draws for draws in large if len({draw.label for draw in draws}) == 1]
    assert_share(len(alone), len(large), expected)


def test_categories_are_alike_where_there_is_one_and_samples_where_there_are_several(shards):
    one = TrainingSamples(shards, SampleRecipe(same_category_probability=1), 0, MANY)
    labels = Counter(one.draws(i)[0].label for i in range(MANY))
    assert sorted(labels) == [1, 3, 4]
    assert scipy.stats.chisquare(list(labels.values())).pvalue > UNLIKELY
    several = TrainingSamples(shards, SampleRecipe(same_category_probability=0), 0, MANY)
    indices = Counter(draw.index for i in range(MANY) for draw in several.draws(i))
    assert sorted(indices) == list(range(9))
    assert scipy.stats.chisquare(list(indices.values())).pvalue > UNLIKELY


def test_all_samples_of_the_one_category_are_alike(shards):
    one = TrainingSamples(shards, SampleRecipe(same_category_probability=1), 0, MANY)
    drawn = [draw.index for i in range(MANY) for draw in one.draws(i) if draw.label == 1]
    assert scipy.stats.chisquare(np.bincount(drawn, minlength=6)).pvalue > UNLIKELY


def test_labels_are_those_of_the_samples(objects):
    assert all(draw.label == LABELS[draw.index] for draw in objects)


def test_scales_offsets_and_positions_are_uniform(objects):
    assert_uniform([draw.scale for draw in objects], 0.1, 1.0)
    for axis in range(2):
        assert_uniform([draw.offset[axis] for draw in objects], 0, 1)
        assert_uniform([draw.position[axis] for draw in objects], 0, 1)


def test_draws_do_not_depend_on_one_another(objects):
    columns = np.array(
        [[draw.scale, *draw.offset, *draw.position, draw.flip, draw.greyscale, draw.sigma > 0]
         for draw in objects], float
    )  # fmt: skip
    correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 4 / np.sqrt(len(objects))


def test_corners_are_filled_as_unequally_as_in_the_reference(objects):
    counts = Counter(draw.fill_first for draw in objects)
    shares = {(True, True): 16, (False, True): 12, (True, False): 9, (False, False): 27}
    expected = np.array([shares[corner] for corner in counts]) / 64 * len(objects)
    assert scipy.stats.chisquare(list(counts.values()), expected).pvalue > UNLIKELY


def test_probabilities(objects):
    total = len(objects)
    assert_share(sum(draw.flip for draw in objects), total, 0.5)
    assert_share(sum(draw.jitter is not None for draw in objects), total, 0.8)
    assert_share(sum(draw.greyscale for draw in objects), total, 0.2)
    assert_share(sum(draw.sigma > 0 for draw in objects), total, 0.5)


def test_strengths_of_jitter_and_blur(objects):
    assert_uniform([draw.sigma for draw in objects if draw.sigma], 0.1, 2.0)
    jitters = [draw.jitter for draw in objects if draw.jitter]
    for name in ("brightness", "contrast", "saturation"):
        assert_uniform([getattr(jitter, name) for jitter in jitters], 0.2, 1.8)
    assert_uniform([jitter.hue for jitter in jitters], -0.2, 0.2)
    orders = Counter(jitter.order for jitter in jitters)
    assert len(orders) == 24
    assert scipy.stats.chisquare(list(orders.values())).pvalue > UNLIKELY


def colour_statistics(pixels: np.ndarray) -> list[float]:
    """Channels' means, spread of the luma, and mean difference of channels, of uint8 [3, h, w]."""
    planes = pixels.astype(float)
    chroma = planes.max(axis=0) - planes.min(axis=0)
    return [*planes.mean(axis=(1, 2)), planes.mean(axis=0).std(), chroma.mean()]


@pytest.mark.parametrize("index", [0, 6])
def test_colours_are_distributed_as_torchvisions(shards, objects, index):
    count = 1000
    image = shards.decode_image(index, shards.read(index).jpeg, least=(20, 20))
    pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    context = ColourContext(pixels.reshape(3, 1, -1), np.ones(pixels[0].size))
    ours, theirs = [], []
    for draw in objects[:count]:
        augmented = pixels.copy()
        if draw.jitter:
            jitter_colours(augmented, draw.jitter, context)
        if draw.greyscale:
            make_grey(augmented)
        ours.append(colour_statistics(augmented))
    torch.manual_seed(index)
    jitter, grey = RandomApply([ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8), RandomGrayscale(0.2)
    for _ in range(count):
        theirs.append(colour_statistics(np.asarray(grey(jitter(image))).transpose(2, 0, 1)))
    for a, b in zip(np.transpose(ours), np.transpose(theirs), strict=True):
        assert scipy.stats.ks_2samp(a, b).pvalue > UNLIKELY
        both = np.concatenate([a, b])
        error = both.std() * np.sqrt(2 / count)
        assert abs(a.mean() - b.mean()) < 4 * error
        spread_error = np.sqrt(max(scipy.stats.moment(both, 4) - both.var() ** 2, 0) * 2 / count)
        assert abs(a.var() - b.var()) < 4 * spread_error


# As the reference makes it


def baseline(stored: list[Sample]) -> list[StoredSample]:
    return [
        StoredSample(sample.jpeg, coco.encode(np.asfortranarray(sample.mask, dtype=np.uint8)))
        for sample in stored
    ]


@pytest.mark.parametrize("crop", [48, 110, 200])
def test_labels_are_the_references_and_images_are_close(shards, crop):
    samples = samples_of(shards, SampleRecipe(crop=crop))
    for i in range(6):
        sample, expected = samples[i], make_sample(baseline(STORED), samples.draws(i), crop)
        assert torch.equal(sample.instances, expected.instances)
        assert torch.equal(sample.semantic.to(torch.int64), expected.semantic)
        assert (sample.image - expected.image).abs().mean() < 0.05


@pytest.mark.parametrize("crop", [48, 110, 200])
def test_without_scaled_decoding_images_are_the_references(shards, crop, monkeypatch):
    # Its hue jitter uses PIL's HSV, which rounds colours even without a change of hue.
    monkeypatch.setitem(training_samples._ADJUST, "hue", lambda image, turn: image)
    recipe = SampleRecipe(crop=crop, min_scale=0.55, jitter=(0.8, 0.0, 0.8, 0.0))
    samples = samples_of(shards, recipe)
    for i in range(6):
        sample, expected = samples[i], make_sample(baseline(STORED), samples.draws(i), crop)
        shown = sample.instances.any(dim=0) | (sample.semantic == 0)
        difference = (sample.image - expected.image).abs()[:, shown]
        # One level is 0.0175; saturation at its strongest makes a few of one.
        assert difference.max() < 0.08
        assert difference.mean() < 0.003


# Bad input


def test_a_damaged_sample_is_named_in_one_sentence(tmp_path):
    shards = dataset_of(tmp_path, stored_sample(0, 1))
    with (tmp_path / "small-000000.tar").open("r+b") as file:
        file.truncate(700)
    samples = samples_of(shards)
    with pytest.raises(ArtifactError, match=r"^Sample 00000000 of \S+small-000000\.tar") as here:
        samples[0]
    [in_worker, *_] = load(samples, 1, 2)
    assert isinstance(in_worker, ArtifactError)
    assert str(in_worker) == str(here.value)


@pytest.mark.parametrize(
    "change",
    [{"crop": 8}, {"min_objects": 0}, {"min_objects": 5, "max_objects": 4}, {"max_objects": 256},
     {"min_scale": 0.0}, {"min_scale": 0.6, "max_scale": 0.5}, {"flip": 1.1}, {"greyscale": -0.1},
     {"same_category_probability": 2.0}, {"jitter": (0.8, 0.8, 0.8, 0.6)}, {"min_sigma": 0.0},
     {"jitter": (0.8, 0.8, 0.8)}, {"jitter": (-0.1, 0, 0, 0)}, {"max_scale": float("nan")}],
)  # fmt: skip
def test_recipes_that_can_not_work(change):
    with pytest.raises(ConfigError, match=list(change)[-1]):
        SampleRecipe(**change)


def test_seed_and_length_are_checked(shards):
    with pytest.raises(ValueError, match="at least 0, got -1"):
        TrainingSamples(shards, SMALL, -1, 3)


# Weights of the objects' losses


def test_a_batch_has_the_weight_of_each_object(shards):
    weights = np.arange(len(STORED), dtype=np.float32)
    weighted = TrainingSamples(shards, SMALL, 0, 12, weights)
    batches = load(weighted, workers=0, batch=3)
    for number, batch in enumerate(batches):
        assert batch.object_weights is not None
        for place, found in enumerate(batch.object_weights):
            drawn = [draw.index for draw in weighted.draws(3 * number + place)]
            assert found.tolist() == drawn
            assert len(found) == len(batch.instance_masks[place])
    for one, other in zip(batches, load(samples_of(shards), 0, 3), strict=True):
        assert_equal(one, other)
        assert other.object_weights is None
