"""The stage `estimate_evidence`: how many images show each category, and what competes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import write_parquet
from tasks.indexing.index_rows import IndexRows, load_index_rows, records_at
from tasks.retrieval.ambiguity import second_sense, shared_images
from tasks.retrieval.category_queries import (
    CategoryQuery,
    artifacts_read,
    embeddings_of,
    load_neighbours,
    sampled_positions,
)
from tasks.retrieval.count_estimate import estimate_count
from tasks.retrieval.text_rows import load_text_rows
from tasks.stage.contract import Progress
from tasks.stage.layout import EVIDENCE

NAME = "estimate_evidence"
VERSION = 2
_THIN, _BEST, _RIVALS = 10, 5, 2
# Of a category: enough to tell what they show, few enough to be the best ones.
_MOST_LOOKED_AT = 100
_IMAGE = pa.struct([("image_id", pa.string()), ("uri", pa.string()), ("score", pa.float32())])
_RIVAL = pa.struct(
    [
        ("category_id", pa.int32()),
        ("category", pa.string()),
        ("similarity", pa.float32()),
        ("shared", pa.float32()),
    ]
)
_SCHEMA = pa.schema(
    [
        ("category_id", pa.int32()),
        ("category", pa.string()),
        ("images", pa.int64()),
        ("thin", pa.bool_()),
        ("best", pa.list_(_IMAGE)),
        ("other_sense", pa.list_(_IMAGE)),
        ("rivals", pa.list_(_RIVAL)),
    ]
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

    Columns: category_id; category; images (how many show it, see `tasks.retrieval.count_estimate`;
    null where the corpus has fewer than 20 images); thin (fewer than 10 images show it, too little
    evidence); best (image_id, uri, score of its five best
    images); other_sense (the same of those that show something else than the best one, see
    `tasks.retrieval.ambiguity`; empty where all show one thing); rivals (category_id, category,
    similarity, shared of the two categories that want the same images: cosine of what is looked
    for, and the share of this category's images that are the rival's, too).

    A category's images are here as many of its neighbours as are estimated to show it: at least
    five, at most 100.
    """
    index = store.get(inputs.index)
    rows, _ = load_index_rows(index, store)
    loaded, _ = load_text_rows([category.searched for category in inputs.categories], store)
    searched = loaded.astype(np.float64)
    # Of an image with several crops the first row is the central one, as of all others.
    sample = rows.fetch(sampled_positions(rows.images)).astype(np.float64)
    neighbours = load_neighbours(inputs.categories, store)
    column = neighbours["column"].to_numpy()
    counts, tops = [], []
    for number, row in enumerate(searched):
        found = neighbours.filter(pa.array(column == number))
        # A sum of products, not a matrix product: BLAS may order its additions by shape.
        cosines = (sample * row).sum(axis=1)
        count = estimate_count(cosines, found["score"].to_numpy(), rows.images)
        counts.append(count)
        tops.append(found.slice(0, _looked_at(count)))
        progress.advance(1)
    embeddings = embeddings_of(rows, [top["position"].to_numpy() for top in tops])
    corpus = sample.mean(axis=0)
    others = [
        _other_sense(top, images, corpus) for top, images in zip(tops, embeddings, strict=True)
    ]
    table = pa.table(
        {
            "category_id": [category.category_id for category in inputs.categories],
            "category": [category.name for category in inputs.categories],
            "images": counts,
            "thin": [count is not None and count < _THIN for count in counts],
            "best": _described([top.slice(0, _BEST) for top in tops], index, rows, store),
            "other_sense": _described([top.slice(0, _BEST) for top in others], index, rows, store),
            "rivals": _rivals(inputs.categories, searched, tops, rows),
        },
        _SCHEMA,
    )
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(EVIDENCE) as file:
            write_parquet(table, file)
        return store.publish(
            attempt, _recipe(inputs), counts={"categories": len(inputs.categories)}
        )


def _looked_at(count: int | None) -> int:
    return _MOST_LOOKED_AT if count is None else min(max(count, _BEST), _MOST_LOOKED_AT)


def _other_sense(top: pa.Table, images: np.ndarray, corpus: np.ndarray) -> pa.Table:
    """Those of a category's neighbours, of embeddings [n, d], that show something else than the
    best; of a corpus with a mean embedding [d]."""
    other = second_sense(images, corpus)
    return top.slice(0, 0) if other is None else top.filter(pa.array(other))


def _described(
    tables: Sequence[pa.Table], index: Artifact, rows: IndexRows, store: ArtifactStore
) -> list[list[dict[str, Any]]]:
    """image_id, uri and score of neighbours, a list a table."""
    found = pa.concat_tables(tables)
    positions, which = np.unique(rows.image_of(found["position"].to_numpy()), return_inverse=True)
    if not len(positions):
        return [[] for _ in tables]
    uris = records_at(index, positions, ["uri"], store)["uri"].take(pa.array(which))
    images = found.select(["image_id", "score"]).append_column("uri", uris).to_pylist()
    ends = np.cumsum([table.num_rows for table in tables]).tolist()
    starts = [0, *ends[:-1]]
    return [images[start:end] for start, end in zip(starts, ends, strict=True)]


def _rivals(
    categories: Sequence[CategoryQuery],
    searched: np.ndarray,
    tops: Sequence[pa.Table],
    rows: IndexRows,
) -> list[list[dict[str, Any]]]:
    """The two rivals of each category: those that share most of its images, then those that are
    asked for with the most similar text."""
    shared = shared_images([np.unique(rows.image_of(top["position"].to_numpy())) for top in tops])
    similar = (searched @ searched.T).round(6)
    rivals = []
    for number in range(len(categories)):
        order = np.lexsort((-similar[number], -shared[number]))
        nearest = [other for other in order.tolist() if other != number][:_RIVALS]
        rivals.append(
            [
                {
                    "category_id": categories[other].category_id,
                    "category": categories[other].name,
                    "similarity": similar[number, other],
                    "shared": shared[number, other],
                }
                for other in nearest
            ]
        )
    return rivals
