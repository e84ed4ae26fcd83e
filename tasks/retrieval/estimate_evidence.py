"""The stage `estimate_evidence`: how many images of the corpus show each category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import write_parquet
from tasks.indexing.index_rows import load_index_rows
from tasks.retrieval.category_queries import (
    CategoryQuery,
    artifacts_read,
    load_neighbours,
    sampled_positions,
)
from tasks.retrieval.count_estimate import estimate_count
from tasks.retrieval.text_rows import load_text_rows
from tasks.stage.contract import Progress
from tasks.stage.layout import EVIDENCE

NAME = "estimate_evidence"
VERSION = 1
_SCHEMA = pa.schema(
    [("category_id", pa.int32()), ("category", pa.string()), ("images", pa.int64())]
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The stage has no settings."""


@dataclass(frozen=True)
class Inputs:
    """An index and the vocabulary's categories."""

    index: ArtifactRef
    categories: tuple[CategoryQuery, ...]


def _recipe(inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={},
        inputs={
            "index": inputs.index.key,
            **artifacts_read(inputs.categories),
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    items = [category.described for category in inputs.categories]
    return ArtifactRef(NAME, _recipe(inputs).key(items))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `evidence.parquet`: a row a category, in their order.

    Columns: category_id, category, images (how many show it, see
    `tasks.retrieval.count_estimate`; null where the corpus has fewer than 20 images).
    """
    rows, _ = load_index_rows(store.get(inputs.index), store)
    searched, _ = load_text_rows([category.searched for category in inputs.categories], store)
    # Of an image with several crops the first row is the central one, as of all others.
    sample = rows.fetch(sampled_positions(rows.images)).astype(np.float64)
    neighbours = load_neighbours(inputs.categories, store)
    column, score = neighbours["column"].to_numpy(), neighbours["score"].to_numpy()
    counts = []
    for number, row in enumerate(searched.astype(np.float64)):
        # A sum of products, not a matrix product: BLAS may order its additions by shape.
        cosines = (sample * row).sum(axis=1)
        counts.append(estimate_count(cosines, score[column == number], rows.images))
        progress.advance(1)
    table = pa.table(
        {
            "category_id": [category.category_id for category in inputs.categories],
            "category": [category.name for category in inputs.categories],
            "images": counts,
        },
        _SCHEMA,
    )
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(EVIDENCE) as file:
            write_parquet(table, file)
        return store.publish(
            attempt, _recipe(inputs), counts={"categories": len(inputs.categories)}
        )
