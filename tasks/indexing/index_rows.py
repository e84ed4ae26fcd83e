"""The embeddings of an index, streamed or gathered from the embedding parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.embeddings.parts import Block, open_embeddings, read_embeddings
from storage.images.records import read_parquet
from tasks.stage.layout import EMBEDDINGS, INDEX_IMAGES, RECORDS

# Rows read at a time: some megabytes, so that a GPU is filled and little memory is held.
_ROWS_AT_ONCE = 16_384


class IndexRows:
    """Rows of the embedding parts by their position in the index.

    Args:
        images: the table (image_id, part, row), sorted by part; row numbers are the positions.
            Rows of extra crops come last, and then a column `image` has the position of every
            row's image.
        parts: the embedding artifacts to which its `part` column refers.

    Attributes:
        images: number of images; further rows are crops of them.
        max_rows_per_image: largest number of rows of an image.
    """

    def __init__(self, images: pa.Table, parts: Sequence[Artifact]) -> None:
        self._part = images["part"].to_numpy()
        self._row = images["row"].to_numpy()
        self._parts = parts
        self._image = images["image"].to_numpy() if "image" in images.column_names else None
        self.images, self.max_rows_per_image = len(self._part), 1
        if self._image is not None:
            self.images = int(self._image.max(initial=-1)) + 1
            self.max_rows_per_image = int(np.bincount(self._image).max(initial=1))
        self._starts = np.searchsorted(self._part, np.arange(len(parts) + 1))

    def __len__(self) -> int:
        return len(self._part)

    def image_of(self, positions: np.ndarray) -> np.ndarray:
        """Positions of the images that the rows at `positions` (any shape) belong to."""
        return positions if self._image is None else np.asarray(self._image[positions])

    def blocks(self) -> Iterator[Block]:
        """All rows in order of position, in blocks; each is valid until the next."""
        for number, artifact in enumerate(self._parts):
            position, end = self._starts[number], self._starts[number + 1]
            if position == end:
                continue
            kept = self._row[position:end]
            first = 0
            with artifact.open(EMBEDDINGS) as file:
                for rows in read_embeddings(file, _ROWS_AT_ONCE):
                    chosen = kept[slice(*np.searchsorted(kept, [first, first + len(rows)]))]
                    if len(chosen):
                        here = rows if len(chosen) == len(rows) else rows[chosen - first]
                        yield Block(int(position), here)
                    position += len(chosen)
                    first += len(rows)

    def fetch(self, positions: np.ndarray) -> np.ndarray:
        """float16 rows [m, d] at int64 positions [m]."""
        part = self._part[positions]
        gathered: np.ndarray | None = None
        for number in np.unique(part):
            wanted = np.flatnonzero(part == number)
            rows = open_embeddings(self._parts[number], EMBEDDINGS)
            if gathered is None:
                gathered = np.empty((len(positions), rows.shape[1]), dtype=np.float16)
            gathered[wanted] = rows[self._row[positions[wanted]]]
        assert gathered is not None, "positions must not be empty"
        return gathered

    def sample(self, count: int, seed: int) -> np.ndarray:
        """float32 [m, d], m at most `count`, in an order chosen by the seed."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.fetch(chosen).astype(np.float32)


def load_index_rows(index: Artifact, store: ArtifactStore) -> tuple[IndexRows, pa.ChunkedArray]:
    """The embeddings of a published index, and its image_ids by position."""
    with index.open(INDEX_IMAGES) as file:
        images = read_parquet(file)
    return IndexRows(images, embedded_parts(index, store)), images["image_id"]


def embedded_parts(index: Artifact, store: ArtifactStore) -> list[Artifact]:
    """The embedding artifacts of an index in order: those of images, then those of crops."""
    inputs = index.manifest["inputs"]
    refs = [ArtifactRef("embed_images", key) for key in inputs["parts"]]
    refs += [ArtifactRef("embed_crops", key) for key in inputs.get("crops", ())]
    return [store.get(ref) for ref in refs]


def records_at(
    index: Artifact, positions: np.ndarray, columns: Sequence[str], store: ArtifactStore
) -> pa.Table:
    """The records of the images at index positions, each part's table read once.

    Args:
        index: the artifact; positions: int64 [m], of images and not of crops; columns: of the
            records.

    Returns:
        One row per position, in order: the columns, and `embedded`, the key of the artifact that
        has the image.
    """
    with index.open(INDEX_IMAGES) as file:
        images = read_parquet(file).take(pa.array(positions))
    part, row = images["part"].to_numpy(), images["row"].to_numpy()
    artifacts = embedded_parts(index, store)
    tables, places = [], []
    for number in np.unique(part):
        wanted = np.flatnonzero(part == number)
        with artifacts[number].open(RECORDS) as file:
            records = read_parquet(file, columns=columns)
        chosen = records.take(pa.array(row[wanted]))
        keys = pa.array([artifacts[number].key] * chosen.num_rows, pa.string())
        tables.append(chosen.append_column("embedded", keys))
        places.append(wanted)
    return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places))))
