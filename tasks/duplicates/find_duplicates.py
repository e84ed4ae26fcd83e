"""The stage `find_duplicates`: groups of images that show the same, of an index or a retrieval."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import write_parquet
from tasks.duplicates.candidates import (
    Pairs,
    approximate_nearest,
    exact_nearest,
    pairs_within,
)
from tasks.duplicates.confirming import Match, confirm, sizes_of
from tasks.duplicates.groups import found_groups
from tasks.duplicates.local_rows import local_rows
from tasks.duplicates.settings import MatchingConfig, chosen_positions, keys_of
from tasks.duplicates.thumbnails import COLUMNS, thumbnails_of
from tasks.indexing.approximate_search import approximate_search
from tasks.indexing.index_rows import IndexRows, load_index_rows, records_at
from tasks.stage.contract import Progress, waiting
from tasks.stage.layout import DUPLICATES, FAISS_FILE

NAME = "find_duplicates"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Config(MatchingConfig):
    """Settings of the near-duplicates."""


@dataclass(frozen=True)
class Inputs:
    """An index, and the retrieval whose images are to be compared with each other; None for all
    images of the index."""

    index: ArtifactRef
    retrieval: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    keys = keys_of(inputs.index, inputs.retrieval)
    return Recipe(stage=NAME, version=VERSION, config=config.deciding, inputs=keys)


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `duplicates.parquet`: each image that has a near-duplicate, with its group.

    Columns: image_id, group (the smallest image_id in it), matches (the image of the group that it
    was found to be closest to), similarity (cosine of the two), distance (of the comparison, see
    `comparison.Comparison`), way (how the two differ, see `confirming.Match`).

    Groups are connected: two crops of one image are in a group through it, even where they show
    little in common. The counts give the images, the candidate pairs, the images that can't be
    decoded (`unreadable`, which are in no group), the groups, and the `duplicates`: the images in
    groups beyond one of each.

    Of an approximate index all images are searched through its FAISS file, and those of a retrieval
    exactly.

    Raises:
        CorpusError: an image is missing or has changed since it was indexed.
        StorageError: a server has a transient error.
    """
    index = store.get(inputs.index)
    rows, image_ids = load_index_rows(index, store)
    positions = chosen_positions(image_ids.slice(0, rows.images), inputs.retrieval, store)
    pairs = _candidates(config, inputs, index, rows, positions, progress)
    numbers, (first, second) = _renumbered(pairs)
    records = records_at(index, positions[numbers], COLUMNS, store) if len(numbers) else _NO_RECORDS
    matches, unreadable = _confirmed(
        config, Pairs(first, second, pairs.similarity), records, progress
    )
    table = found_groups(records["image_id"].to_pylist(), matches)
    groups = len(table["group"].unique())
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(DUPLICATES) as file:
            write_parquet(table, file)
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={"images": len(positions), "candidates": len(pairs), "unreadable": unreadable,
                    "groups": groups, "duplicates": table.num_rows - groups},
        )  # fmt: skip


_NO_RECORDS = pa.table(
    {name: pa.array([], pa.int64() if name in ("height", "width") else pa.string())
     for name in COLUMNS}
)  # fmt: skip


def _candidates(
    config: Config,
    inputs: Inputs,
    index: Artifact,
    rows: IndexRows,
    positions: np.ndarray,
    progress: Progress,
) -> Pairs:
    """Pairs of images, by their places among the positions."""
    if not len(positions):
        return Pairs(positions, positions, np.empty(0, np.float32))
    with ExitStack() as opened:
        chosen = opened.enter_context(local_rows(rows, positions))
        beside_itself = config.neighbours + 1
        if FAISS_FILE in index.files and inputs.retrieval is None:
            search = opened.enter_context(approximate_search(index))
            nearest = approximate_nearest(search, rows, beside_itself)
        else:
            nearest = exact_nearest(chosen, beside_itself, config.device)
        return pairs_within(chosen, nearest, config.least_similarity, progress.advance)


def _renumbered(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """The distinct numbers in pairs, ascending, and the pairs [2, n] by places among them."""
    numbers, places = np.unique(np.stack([pairs.first, pairs.second]), return_inverse=True)
    return numbers, places.reshape(2, -1)


def _confirmed(
    config: Config, pairs: Pairs, records: pa.Table, progress: Progress
) -> tuple[list[Match], int]:
    """Matches that connect groups without a circle, and the number of unreadable images."""
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(records.num_rows))
    what = f"comparing {records.num_rows:,} images"
    with waiting(progress, what), thumbnails_of(records, config.threads) as thumbnails:
        matches = confirm(
            pairs,
            thumbnails,
            sizes_of(records),
            greatest=config.greatest_distance,
            threads=config.threads,
            is_settled=groups.connected,
            settle=groups.merge,
        )
        return list(matches), int(np.count_nonzero(~thumbnails.readable))
