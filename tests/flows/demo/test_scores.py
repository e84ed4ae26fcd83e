"""Retrieval and pseudo-masks against a corpus's ground truth."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from flows.demo.scores import (
    precision_by_chance,
    precisions,
    retrieved_images,
    scored_masks,
)
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.records import write_parquet
from storage.shards.samples import ShardSamples
from storage.shards.writing import Sample
from tasks.stage.layout import RETRIEVAL, RETRIEVED_IMAGES
from tests.support.files.small_datasets import write_dataset


def box(left, right, size=(20, 30)):
    mask = np.zeros(size, dtype=np.bool_)
    mask[5:15, left:right] = True
    return mask


TRUTH = {
    "a.jpg": [("bell", box(5, 15))],
    "b.jpg": [("key", box(5, 15)), ("bell", box(15, 25))],
    "c.jpg": [],
}
RANKED = [("key", 1, "B"), ("key", 2, "A"), ("bell", 2, "C"), ("bell", 1, "A"), ("teapot", 1, "A")]


@pytest.fixture
def retrieval(tmp_path):
    store = ArtifactStore(str(tmp_path / "store"))
    recipe = Recipe(stage="retrieve", version=1, config={})
    rows = [{"category": kind, "rank": rank, "image_id": i} for kind, rank, i in RANKED]
    images = [
        {"image_id": letter, "uri": f"/corpus/pictures/{letter.lower()}.jpg"} for letter in "ABC"
    ]
    with store.attempt(ArtifactRef("retrieve", recipe.key())) as attempt:
        for name, table in ((RETRIEVAL, rows), (RETRIEVED_IMAGES, images)):
            with attempt.create(name) as file:
                write_parquet(pa.Table.from_pylist(table), file)
        return store.publish(attempt, recipe, inputs={}, counts={})


def test_retrieved_images_are_right_or_wrong(retrieval):
    found = retrieved_images(retrieval, TRUTH)
    assert [(one.kind, one.rank, one.file, one.right) for one in found] == [
        ("bell", 1, "a.jpg", True),
        ("bell", 2, "c.jpg", False),
        ("key", 1, "b.jpg", True),
        ("key", 2, "a.jpg", False),
    ]
    assert precisions(found) == {"bell": 0.5, "key": 0.5}


def test_masks_are_compared_with_all_that_is_on_the_picture(retrieval, tmp_path):
    def sample(key: str, label: int, mask: np.ndarray) -> Sample:
        file = io.BytesIO()
        Image.new("RGB", (30, 20)).save(file, "JPEG")
        return Sample(key=key, jpeg=file.getvalue(), mask=mask, label=label, facts={})

    stored = [
        sample("A", 1, box(5, 20)),
        sample("B", 2, box(5, 25)),
        sample("C", 1, box(5, 25)),  # it shows no object
    ]
    samples = ShardSamples.open(write_dataset(tmp_path / "data", stored, {1: "bell", 2: "key"}))
    found = scored_masks(samples, retrieved_images(retrieval, TRUTH), TRUTH)
    assert [(one.kind, one.rank, one.right) for one in found] == [
        ("bell", 1, True),
        ("key", 1, True),
    ]
    assert found[0].iou == pytest.approx(10 / 15)
    assert found[1].iou == 1.0
    assert found[1].truth.sum() == 200


def test_the_precision_of_images_taken_at_random():
    # One of three images shows a key, two show a bell.
    assert precision_by_chance(TRUTH, {"key", "bell"}) == pytest.approx(0.5)
