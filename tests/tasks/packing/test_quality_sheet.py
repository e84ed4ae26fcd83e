"""The sheet of the best and the worst labels: which are on it, and on which side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.records import write_parquet
from storage.shards.samples import ShardSamples
from storage.shards.writing import Sample
from tasks.packing.quality_sheet import draw_best_and_worst, quality_of
from tests.support.files.small_datasets import stored_sample, write_dataset

EVERYWHERE = np.ones((96, 128), dtype=np.bool_)


def plain(seed: int, label: int, grey: int) -> Sample:
    """A sample of one grey all over, whose mask is the whole image, so that nothing is dimmed."""
    sample = stored_sample(seed, label, mask=EVERYWHERE)
    buffer = io.BytesIO()
    Image.fromarray(np.full((96, 128, 3), grey, np.uint8)).save(buffer, "JPEG", quality=95)
    return Sample(sample.key, buffer.getvalue(), sample.mask, label, sample.facts)


def dataset(folder: Path, greys: dict[int, list[int]]) -> ShardSamples:
    """Samples of each label with these greys, by label."""
    samples = [
        plain(10 * label + at, label, grey)
        for label, several in greys.items()
        for at, grey in enumerate(several)
    ]
    names = {label: f"kind {label}" for label in greys}
    return ShardSamples.open(write_dataset(folder, samples, names))


def greys_of(picture: bytes) -> tuple[list[int], list[int]]:
    """The greys of the images on the left and on the right, in reading order."""
    sheet = np.asarray(Image.open(io.BytesIO(picture)).convert("L")).astype(int)
    halves: tuple[list[int], list[int]] = [], []
    for side, left in enumerate((6, 6 + 3 * 198 + 30)):
        for row in range(3):
            for column in range(3):
                y, x = 30 + row * 216 + 18 + 60, left + column * 198 + 96
                if y < sheet.shape[0] and sheet[y, x] < 235:
                    halves[side].append(round(sheet[y, x] / 10) * 10)
    return halves


def test_the_best_are_on_the_left_and_the_worst_on_the_right_each_in_their_order(tmp_path):
    samples = dataset(tmp_path, {1: list(range(20, 220, 10))})
    quality = np.linspace(0.0, 0.95, 20)
    best, worst = greys_of(draw_best_and_worst(samples, quality))
    assert best == [210, 200, 190, 180, 170, 160, 150, 140, 130]
    assert worst == [20, 30, 40, 50, 60, 70, 80, 90, 100]


def test_no_category_crowds_the_others_out(tmp_path):
    samples = dataset(tmp_path, {1: [200] * 9, 2: [100] * 9, 3: [50] * 9})
    quality = np.concatenate([np.full(9, 0.9), np.full(9, 0.5), np.full(9, 0.1)])
    best, worst = greys_of(draw_best_and_worst(samples, quality))
    assert best == [200] * 3 + [100] * 3 + [50] * 3
    assert worst == [50] * 3 + [100] * 3 + [200] * 3


def test_labels_without_a_quality_are_on_neither_side(tmp_path):
    samples = dataset(tmp_path, {1: [20, 120, 200]})
    best, worst = greys_of(draw_best_and_worst(samples, np.array([np.nan, 0.5, 0.9])))
    assert best == [200, 120]
    assert worst == [120, 200]
    assert draw_best_and_worst(samples, np.full(3, np.nan)) == b""


def test_quality_is_found_by_image_and_category(tmp_path):
    samples = dataset(tmp_path / "data", {1: [20, 30], 2: [40]})
    store = ArtifactStore(str(tmp_path / "store"))
    recipe = Recipe(stage="choose_labels", version=1, config={})
    rows = [
        {"image_id": samples.key(0), "category_id": 1, "quality": 0.25},
        {"image_id": samples.key(0), "category_id": 2, "quality": 0.75},
        {"image_id": samples.key(1), "category_id": 1, "quality": None},
    ]
    with store.attempt(ArtifactRef("choose_labels", recipe.key())) as attempt:
        with attempt.create("chosen.parquet") as file:
            write_parquet(pa.Table.from_pylist(rows), file)
        chosen = store.publish(attempt, recipe)
    assert quality_of(samples, chosen).tolist() == pytest.approx(
        [0.25, np.nan, np.nan], nan_ok=True
    )
