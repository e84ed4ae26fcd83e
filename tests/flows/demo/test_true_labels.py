"""The ceiling's data set: true masks in place of pseudo-masks, and nothing else of those."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.demo.scores import Retrieved
from flows.demo.true_labels import with_true_masks
from flows.pipelines.training import find_dataset
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import write_parquet
from storage.shards.samples import ShardSamples
from storage.shards.writing import ShardWriter
from tests.support.files.small_datasets import stored_sample

KINDS = {1: "bell", 2: "key"}


def box(left: int, right: int) -> np.ndarray:
    mask = np.zeros((96, 128), dtype=np.bool_)
    mask[20:60, left:right] = True
    return mask


SAMPLES = [stored_sample(1, label=1), stored_sample(2, label=1), stored_sample(3, label=2)]
FILES = {SAMPLES[0].key: "a.jpg", SAMPLES[1].key: "b.jpg", SAMPLES[2].key: "c.jpg"}
TRUTH = {
    "a.jpg": [("bell", box(0, 30)), ("key", box(30, 60)), ("bell", box(60, 90))],
    "b.jpg": [("key", box(0, 30))],
    "c.jpg": [("key", box(5, 25))],
}


@pytest.fixture
def dataset(tmp_path: Path) -> Artifact:
    store = ArtifactStore(str(tmp_path / "store"))
    recipe = Recipe(stage="assemble_dataset", version=2, config={"name": "small"})
    with store.attempt(ArtifactRef("assemble_dataset", recipe.key())) as attempt:
        with attempt.create("small-000000.tar") as file:
            writer = ShardWriter(file, max(KINDS))
            for sample in SAMPLES:
                writer.write(sample)
            index = writer.close()
        with attempt.create("index.parquet") as file:
            names = pa.array(["small-000000.tar"] * index.num_rows, pa.string())
            write_parquet(index.add_column(0, "shard", names), file)
        rows = [{"category_id": number, "name": name} for number, name in KINDS.items()]
        attempt.create_json("vocabulary.json", rows)
        return store.publish(attempt, recipe)


def retrieved() -> list[Retrieved]:
    return [
        Retrieved(
            kind=KINDS[sample.label],
            rank=1,
            image_id=sample.key,
            file=FILES[sample.key],
            right=FILES[sample.key] != "b.jpg",
        )
        for sample in SAMPLES
    ]


def test_masks_are_all_that_an_image_shows_of_its_category(dataset, tmp_path):
    store = ArtifactStore(str(tmp_path / "ceiling"))
    made = ShardSamples.open(with_true_masks(dataset, retrieved(), TRUTH, store))
    assert [made.key(i) for i in range(len(made))] == [SAMPLES[0].key, SAMPLES[2].key]
    assert made.labels.tolist() == [1, 2]
    stored = [made.read(i) for i in range(2)]
    assert np.array_equal(made.decode_object(0, stored[0]), box(0, 30) | box(60, 90))
    assert np.array_equal(made.decode_object(1, stored[1]), box(5, 25))
    assert np.array_equal(made.decode_labels(1, stored[1].mask), 2 * box(5, 25))
    assert stored[0].jpeg == SAMPLES[0].jpeg
    assert "objectness" not in json.loads(stored[0].facts)
    assert made.categories == KINDS


def test_it_is_made_once_in_a_store_of_its_own(dataset, tmp_path):
    store = ArtifactStore(str(tmp_path / "ceiling"))
    first = with_true_masks(dataset, retrieved(), TRUTH, store)
    assert with_true_masks(dataset, [], {}, store).location == first.location
    assert find_dataset(store, "").ref == first.ref
    assert find_dataset(dataset.store, "").ref == dataset.ref
