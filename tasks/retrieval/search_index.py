"""The stage `search_index`: the k nearest images of each text, shared by all vocabularies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.images.records import write_parquet
from tasks.indexing.approximate_search import approximate_search
from tasks.indexing.index_rows import IndexRows, load_index_rows
from tasks.retrieval.text_rows import TextRow, load_text_rows
from tasks.stage.contract import Progress
from tasks.stage.layout import FAISS_FILE, NEIGHBOURS

NAME = "search_index"
VERSION = 1
_SCHEMA = pa.schema(
    [
        ("text_id", pa.string()),
        ("rank", pa.int32()),
        ("position", pa.int64()),
        ("image_id", pa.string()),
        ("score", pa.float32()),
    ]
)
_RECALL_QUERIES = 16


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the search.

    Attributes:
        k: images per category.
        texts_prefix: key prefix of the `embed_text` recipe that the texts come from.
        device: where the products are computed; not part of the key.
    """

    k: int
    texts_prefix: str
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"per_category is {self.k}: choose at least 1 image.")


@dataclass(frozen=True)
class Inputs:
    """An index, and texts of the model that made it."""

    index: ArtifactRef
    texts: tuple[TextRow, ...]


def recipe(config: Config, index: ArtifactRef) -> Recipe:
    """The recipe that all searches of one index with the same k share."""
    return Recipe(stage=NAME, version=VERSION, config={"k": config.k},
                  inputs={"index": index.key, "texts": config.texts_prefix})  # fmt: skip


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    items = [[text.text_id, text.key] for text in inputs.texts]
    return ArtifactRef(NAME, recipe(config, inputs.index).key(items))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `neighbours.parquet`: text_id, rank (from 1), position, image_id, score (cosine).

    With an approximate index, recall@k against exact search is measured on some of the texts and
    recorded in the counts.

    If the index has fewer than k images, every text gets all of them. An image with several crops
    occurs once, with the `position` of its best row.
    """
    index = store.get(inputs.index)
    rows, image_ids = load_index_rows(index, store)
    k = min(config.k, rows.images)
    queries, _ = load_text_rows(inputs.texts, store)
    scores, positions, counts = search(index, rows, queries, k, config.device)
    progress.advance(len(queries))
    flat = positions.reshape(-1)
    ids = np.repeat([text.text_id for text in inputs.texts], k)
    found = pa.table(
        {
            "text_id": pa.array(ids, pa.string()),
            "rank": pa.array(np.tile(np.arange(1, k + 1, dtype=np.int32), len(queries))),
            "position": flat,
            "image_id": image_ids.take(pa.array(flat)),
            "score": scores.reshape(-1),
        },
        _SCHEMA,
    )
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(NEIGHBOURS) as file:
            write_parquet(found, file)
        return store.publish(
            attempt,
            recipe(config, inputs.index),
            inputs={"texts": sorted({text.key for text in inputs.texts})},
            counts={"texts": len(queries), **counts},
        )


def search(
    index: Artifact, rows: IndexRows, queries: np.ndarray, k: int, device: str
) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """Search an index of either kind.

    Args:
        index: the artifact; rows: its embeddings; queries: float32 [q, d]; k: at most rows.images.

    Returns:
        scores float32 [q, k], positions int64 [q, k] of rows of k different images, and the
        measured recall, if any.
    """
    enough = min(k * rows.max_rows_per_image, len(rows))
    scores, positions, counts = _search_rows(index, rows, queries, enough, device)
    if rows.max_rows_per_image == 1:
        return scores, positions, counts
    best = [_first_of_each_image(rows.image_of(found), k) for found in positions]
    return (
        np.stack([row[chosen] for row, chosen in zip(scores, best, strict=True)]),
        np.stack([row[chosen] for row, chosen in zip(positions, best, strict=True)]),
        counts,
    )


def _first_of_each_image(images: np.ndarray, k: int) -> np.ndarray:
    """Indices of the first rows of the first k different images, of rows sorted by score."""
    _, first = np.unique(images, return_index=True)
    return np.sort(first)[:k]


def _search_rows(
    index: Artifact, rows: IndexRows, queries: np.ndarray, k: int, device: str
) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """As `search`, for rows instead of images."""
    from storage.embeddings.exact_search import exact_search, rescore

    if FAISS_FILE not in index.files:
        return *exact_search(rows.blocks(), queries, k, fetch=rows.fetch, device=device), {}
    with approximate_search(index) as candidates:
        found = candidates(queries, k)
    if any(len(candidates) < k for candidates in found):
        raise ConfigError(
            f"The approximate index found fewer than {k} rows for a category: raise its search "
            "effort (such as --index-search nprobe=64), lower --per-category, or use --index exact."
        )
    scores, positions = rescore(found, queries, k, rows.fetch)
    tested = queries[:_RECALL_QUERIES]
    _, exact = exact_search(rows.blocks(), tested, k, fetch=rows.fetch, device=device)
    from storage.embeddings.faiss_index import recall

    measured = round(recall(positions[: len(tested)], exact), 4)
    return scores, positions, {"recall_k": k, "recall": measured, "recall_texts": len(tested)}
