"""The ceiling of the demonstration: its data set with the world's own masks.

What a network reaches that is trained on it, by the same recipe, is as far as better pseudo-labels
of the same images could bring ZUTIS. It is kept in a store of its own, so that no command takes it
for a data set or a network that was made without annotation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from flows.demo.scores import Mask, Retrieved, Truth
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.masks import run_lengths
from storage.images.records import write_parquet
from storage.shards.samples import ShardSamples
from storage.shards.writing import Sample, ShardWriter
from tasks.packing.assemble_dataset import NAME as DATASET
from tasks.stage.layout import SHARD_INDEX, VOCABULARY

CEILING_STORE: Final = "ceiling"
"""Folder in the demonstration's folder."""

_VERSION = 1
_SHARD: Final = "true-labels-000000.tar"


def with_true_masks(
    dataset: Artifact, retrieved: Sequence[Retrieved], truth: Truth, store: ArtifactStore
) -> Artifact:
    """The data set with true masks, published or found.

    A sample's mask is all that its image shows of the category; samples whose image shows none of
    it are left out.

    Args:
        dataset: of pseudo-labels.
        retrieved: its images, with their kinds and file names.
        truth: of the world.
        store: to publish it in.
    """
    recipe = Recipe(
        stage=DATASET,
        version=_VERSION,
        config={"name": "true labels"},
        inputs={"dataset": dataset.key},
    )
    ref = ArtifactRef(DATASET, recipe.key())
    found = store.find(ref)
    if found is not None:
        return found
    samples = ShardSamples.open(dataset)
    with store.attempt(ref) as attempt:
        with attempt.create(_SHARD) as file:
            writer = ShardWriter(file, max(samples.categories))
            for sample in _corrected(samples, retrieved, truth):
                writer.write(sample)
            index = writer.close()
        with attempt.create(SHARD_INDEX) as file:
            names = pa.array([_SHARD] * index.num_rows, pa.string())
            write_parquet(index.add_column(0, "shard", names), file)
        attempt.create_json(VOCABULARY, dataset.read_json(VOCABULARY))
        return store.publish(attempt, recipe, counts={"shards": 1, "samples": index.num_rows})


def _corrected(
    samples: ShardSamples, retrieved: Sequence[Retrieved], truth: Truth
) -> Iterator[Sample]:
    files = {(one.kind, one.image_id): one.file for one in retrieved}
    for i in range(len(samples)):
        kind = samples.categories[int(samples.labels[i])]
        shown = [mask for name, mask in truth[files[kind, samples.key(i)]] if name == kind]
        if not shown:
            continue
        stored = samples.read(i)
        mask: Mask = np.logical_or.reduce(shown)
        facts = {**_plain(stored.facts), "mask": run_lengths(mask)}
        yield Sample(samples.key(i), stored.jpeg, mask, int(samples.labels[i]), facts)


def _plain(facts: bytes) -> dict[str, Any]:
    """What a sample says of its image; nothing of the pseudo-mask."""
    known = json.loads(facts)
    return {name: known[name] for name in ("image_id", "height", "width", "label") if name in known}
