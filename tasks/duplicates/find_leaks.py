"""The stage `find_leaks`: images that are, or nearly are, in a set that is to be kept out.

A score on an evaluation set means little if the training set has its images. A set to keep out is
scanned, embedded and indexed like a corpus, by the same CLIP.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.files.filesystems import display
from storage.images.records import write_parquet
from tasks.duplicates.candidates import Pairs, exact_nearest, pairs_across
from tasks.duplicates.confirming import Match, confirm, sizes_of
from tasks.duplicates.local_rows import local_rows
from tasks.duplicates.settings import MatchingConfig, chosen_positions, keys_of
from tasks.duplicates.thumbnails import COLUMNS, thumbnails_of
from tasks.indexing.index_rows import IndexRows, load_index_rows, records_at
from tasks.stage.contract import Progress, waiting
from tasks.stage.layout import LEAKS

NAME = "find_leaks"
VERSION = 1

IDENTICAL = "identical"
"""The way of a leak whose file has the same bytes."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        # Name of the set that has the image.
        ("keep_out", pa.string()),
        # URI of the image there; of one in a tar `TAR : MEMBER`.
        ("matches", pa.string()),
        # Cosine of the embeddings of the two.
        ("similarity", pa.float32()),
        # 1 - correlation of the details of what both show.
        ("distance", pa.float32()),
        # How the two differ, see `confirming.Match`, or `identical`.
        ("way", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Config(MatchingConfig):
    """Settings of the comparison."""


@dataclass(frozen=True)
class KeepOut:
    """A set to keep out: its name, as the user gave it, and its index."""

    name: str
    index: ArtifactRef


@dataclass(frozen=True)
class Inputs:
    """An index, the retrieval whose images are looked for (None for all of the index), and the sets
    to look in, of which each is an index by the same CLIP."""

    index: ArtifactRef
    retrieval: ArtifactRef | None
    keep_out: tuple[KeepOut, ...]


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    keys = keys_of(inputs.index, inputs.retrieval)
    return Recipe(stage=NAME, version=VERSION, config=config.deciding, inputs=keys)


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    items = [[each.name, each.index.key] for each in inputs.keep_out]
    return ArtifactRef(NAME, _recipe(config, inputs).key(items))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `leaks.parquet`: each image that a set has, once a set, with the image it matches.

    Columns: image_id, keep_out (the set's name), matches (URI of the image in the set), similarity
    (cosine of the two), distance (of the comparison, see `comparison.Comparison`), way (how the two
    differ, see `confirming.Match`, or `identical` for equal bytes, which are not compared). Sorted
    by the sets, in the order of the inputs, and image_id. The counts give the images that were
    looked for, the distinct ones of them that are leaks, how many of these are identical, and the
    images of either side that can't be decoded (`unreadable`, which match nothing); the notes the
    images of each set, its files that can't be used, which nothing is compared with, and its leaks.

    Raises:
        ConfigError: a set has all of the images, as the corpus itself has.
        CorpusError: an image is missing or has changed since it was indexed.
        StorageError: a server has a transient error.
    """
    images = _images(store.get(inputs.index), inputs.retrieval, store)
    tables, notes, unreadable = [SCHEMA.empty_table()], [], 0
    for each in inputs.keep_out:
        others = _images(store.get(each.index), None, store)
        table, lost = _leaks(config, images, others, each.name, progress)
        if len(images) and table.num_rows == len(images):
            raise ConfigError(
                f"--keep-out {display(each.name)} has all {len(images):,} images that were "
                "retrieved, so that nothing would be left: name an evaluation set, and not the "
                "corpus itself."
            )
        tables.append(table)
        unreadable += lost
        unusable = sum(others.index.counts["rejects"].values())
        notes.append({"name": each.name, "images": len(others), "unusable": unusable,
                      "leaks": table.num_rows})  # fmt: skip
    leaks = pa.concat_tables(tables)
    identical = leaks.filter(pc.equal(leaks["way"], IDENTICAL))
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(LEAKS) as file:
            write_parquet(leaks, file)
        return store.publish(
            attempt, _recipe(config, inputs),
            inputs={"keep_out": [each.index.key for each in inputs.keep_out]},
            counts={"images": len(images), "leaks": len(leaks["image_id"].unique()),
                    "identical": len(identical["image_id"].unique()), "unreadable": unreadable},
            notes={"keep_out": notes},
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Images:
    """Chosen images of an index: `positions` int64 [n], ascending, and `ids`, their image_ids."""

    index: Artifact
    rows: IndexRows
    positions: np.ndarray
    ids: pa.Array

    def __len__(self) -> int:
        return len(self.positions)

    def records(self, numbers: np.ndarray) -> pa.Table:
        """`COLUMNS` of the images of these numbers."""
        return records_at(self.index, self.positions[numbers], COLUMNS, self.index.store)


def _images(index: Artifact, retrieval: ArtifactRef | None, store: ArtifactStore) -> _Images:
    rows, image_ids = load_index_rows(index, store)
    ids = image_ids.slice(0, rows.images)
    positions = chosen_positions(ids, retrieval, store)
    return _Images(index, rows, positions, ids.take(pa.array(positions)).combine_chunks())


def _leaks(
    config: Config, images: _Images, others: _Images, name: str, progress: Progress
) -> tuple[pa.Table, int]:
    """The leaks of one set, sorted by image_id, and the number of unreadable images."""
    place = pc.index_in(images.ids, value_set=others.ids)
    same = np.flatnonzero(pc.is_valid(place).to_numpy(zero_copy_only=False))
    identical = [
        Match(first, second, 1.0, 0.0, IDENTICAL)
        for first, second in zip(same.tolist(), place.drop_null().to_pylist(), strict=True)
    ]
    rest = np.setdiff1d(np.arange(len(images)), same)
    pairs = _candidates(config, images, rest, others, progress)
    near, unreadable = _confirmed(config, images, others, pairs, progress)
    return _table(images, others, [*identical, *near], name), unreadable


def _candidates(
    config: Config, images: _Images, chosen: np.ndarray, others: _Images, progress: Progress
) -> Pairs:
    """Pairs of one of the chosen images, by number, and one of the others."""
    if not len(chosen) or not len(others):
        return Pairs(chosen[:0], chosen[:0], np.empty(0, np.float32))
    with ExitStack() as opened:
        queries = opened.enter_context(local_rows(images.rows, images.positions[chosen]))
        among = opened.enter_context(local_rows(others.rows, others.positions))
        nearest = exact_nearest(among, config.neighbours, config.device)
        pairs = pairs_across(queries, nearest, config.least_similarity, progress.advance)
        return Pairs(chosen[pairs.first], pairs.second, pairs.similarity)


def _confirmed(
    config: Config, images: _Images, others: _Images, pairs: Pairs, progress: Progress
) -> tuple[list[Match], int]:
    """At most one match of each image, and the number of unreadable images."""
    if not len(pairs):
        return [], 0
    of_images, first = np.unique(pairs.first, return_inverse=True)
    of_others, second = np.unique(pairs.second, return_inverse=True)
    records = pa.concat_tables([images.records(of_images), others.records(of_others)])
    matched: set[int] = set()
    what = f"comparing {records.num_rows:,} images"
    with waiting(progress, what), thumbnails_of(records, config.threads) as thumbnails:
        matches = confirm(
            Pairs(first, second + len(of_images), pairs.similarity),
            thumbnails,
            sizes_of(records),
            greatest=config.greatest_distance,
            threads=config.threads,
            is_settled=lambda image, _: image in matched,
            settle=lambda image, _: matched.add(image),
        )
        found = [
            replace(
                match,
                first=int(of_images[match.first]),
                second=int(of_others[match.second - len(of_images)]),
            )
            for match in matches
        ]
        return found, int(np.count_nonzero(~thumbnails.readable))


def _table(images: _Images, others: _Images, matches: list[Match], name: str) -> pa.Table:
    if not matches:
        return SCHEMA.empty_table()
    matches = sorted(matches, key=lambda match: images.ids[match.first].as_py())
    records = others.records(np.array([match.second for match in matches]))
    places = [
        f"{uri} : {member}" if member else uri
        for uri, member in zip(
            records["uri"].to_pylist(), records["member"].to_pylist(), strict=True
        )
    ]
    return pa.table(
        {
            "image_id": images.ids.take(pa.array([match.first for match in matches])),
            "keep_out": [name] * len(matches),
            "matches": places,
            "similarity": [match.similarity for match in matches],
            "distance": [match.distance for match in matches],
            "way": [match.way for match in matches],
        },
        SCHEMA,
    )
