"""Quality of labels, as training reads it from samples, and the weights that follow from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors.exceptions import ArtifactError, ConfigError
from storage.shards.samples import ShardSamples
from tasks.training.quality_weights import LabelQuality, read_quality
from tasks.training.samples import SampleRecipe, TrainingSamples
from tests.support.files.small_datasets import stored_sample, write_dataset

CATEGORIES = {1: "zebra", 2: "red kite", 3: "canoe"}
LABELS = [1, 1, 1, 1, 2, 3]
QUALITIES = [0.2, 0.4, 0.6, 0.8, 0.9, None]


def dataset(
    folder: Path, qualities: list[Any], leave_out: tuple[str, ...] = (), **entry: Any
) -> ShardSamples:
    """A data set whose labels have these qualities; each image is of another category as well."""
    samples = []
    for seed, (label, quality) in enumerate(zip(LABELS, qualities, strict=True)):
        sample = stored_sample(seed, label)
        other = {"category_id": 1 + label % 3, "quality": 0.123}
        own = {"category_id": label, "quality": quality} | entry
        samples.append(replace(sample, facts=sample.facts | {"categories": [other, own]}))
    return ShardSamples.open(write_dataset(folder, samples, CATEGORIES), leave_out)


def quality_of(shards: ShardSamples) -> LabelQuality:
    found = read_quality(shards)
    assert found is not None
    return found


def test_the_quality_is_that_of_the_category_in_the_label_map(tmp_path):
    quality = quality_of(dataset(tmp_path, QUALITIES))
    np.testing.assert_array_equal(quality.values, [0.2, 0.4, 0.6, 0.8, 0.9, np.nan])
    assert quality.facts == {"mean": 0.58, "labels": 6, "without_quality": 1}
    assert quality.sentence(weighted=False) == "Labels: mean quality 0.58, 1 of 6 have none"
    assert "weighted by quality" in quality.sentence(weighted=True)


def test_categories_that_are_left_out_take_their_quality_along(tmp_path):
    quality = quality_of(dataset(tmp_path, QUALITIES, leave_out=("zebra",)))
    np.testing.assert_array_equal(quality.values, [0.9, np.nan])


def test_data_sets_without_quality(tmp_path):
    plain = [stored_sample(seed, label) for seed, label in enumerate(LABELS)]
    shards = ShardSamples.open(write_dataset(tmp_path / "plain", plain, CATEGORIES))
    assert read_quality(shards) is None
    assert read_quality(dataset(tmp_path / "empty", [None] * 6)) is None


def test_of_a_data_set_without_quality_one_sample_is_read(tmp_path, monkeypatch):
    plain = [stored_sample(seed, label) for seed, label in enumerate(LABELS)]
    shards = ShardSamples.open(write_dataset(tmp_path / "plain", plain, CATEGORIES))
    monkeypatch.setattr(shards, "facts", {0: shards.facts(0)}.__getitem__)
    assert read_quality(shards) is None


@pytest.mark.parametrize("wrong", [1.5, -0.1, "good", [0.5]])
def test_a_quality_that_is_none_is_an_error_that_names_the_sample(tmp_path, wrong):
    shards = dataset(tmp_path, [0.5, 0.5, wrong, 0.5, 0.5, 0.5])
    with pytest.raises(ArtifactError, match=r"00000002 of .* has no quality from 0 to 1"):
        read_quality(shards)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_weights_are_quality_over_its_mean_among_the_drawn_objects(tmp_path, probability):
    """By hand: samples are drawn evenly, or evenly within a category that is drawn evenly."""
    shards = dataset(tmp_path, QUALITIES)
    weights = quality_of(shards).weights(shards, probability)
    drawn = np.array([1 / 6] * 6) * (1 - probability)
    drawn += np.array([1 / 12, 1 / 12, 1 / 12, 1 / 12, 1 / 3, 1 / 3]) * probability
    mean = drawn[:5] @ [0.2, 0.4, 0.6, 0.8, 0.9] / drawn[:5].sum()
    np.testing.assert_allclose(weights[:5], np.array([0.2, 0.4, 0.6, 0.8, 0.9]) / mean, rtol=1e-6)
    assert weights[5] == 1
    assert weights.dtype == np.float32
    assert drawn @ weights == pytest.approx(1)


def test_the_mean_weight_of_training_objects_is_1(tmp_path):
    shards = dataset(tmp_path, QUALITIES)
    recipe = SampleRecipe(crop=64, same_category_probability=0.3)
    samples = TrainingSamples(shards, recipe, 0, 4000)
    weights = quality_of(shards).weights(shards, recipe.same_category_probability)
    drawn = [draw.index for i in range(4000) for draw in samples.draws(i)]
    # Objects of a sample may be of one category, so that their weights go together.
    assert weights[drawn].mean() == pytest.approx(1, abs=0.02)


def test_no_weights_from_a_quality_of_0(tmp_path):
    shards = dataset(tmp_path, [0, 0, 0, 0, 0, None])
    with pytest.raises(ConfigError, match=r"that of all labels of .* is 0: set weight_by to none"):
        quality_of(shards).weights(shards, 0.5)
