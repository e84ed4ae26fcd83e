"""What is asked of an index for a vocabulary's categories, and what it answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import read_parquet
from tasks.indexing.index_rows import IndexRows
from tasks.retrieval.text_rows import TextRow
from tasks.stage.layout import NEIGHBOURS

# Images that sample the distribution of scores; evenly spaced, so that no seed is needed.
_SAMPLED = 4_096
_CATEGORIES_READ_AT_ONCE = 64


@dataclass(frozen=True)
class CategoryQuery:
    """A category with references to its text embedding and its search result.

    Attributes:
        category_id: its label, from 1.
        name: as the vocabulary spells it.
        text: its text row.
        search: key of the `search_index` artifact that has its neighbours.
        examples: the row that was searched for in place of the text; None: the text was.
        not_these: text rows of what the category's name does not mean.
    """

    category_id: int
    name: str
    text: TextRow
    search: str
    examples: TextRow | None = None
    not_these: tuple[TextRow, ...] = ()

    @property
    def searched(self) -> TextRow:
        """The row that the neighbours are those of."""
        return self.examples or self.text

    @property
    def described(self) -> list[Any]:
        """What stands in keys; of a category that has only a text, the text alone."""
        more = {
            "examples": self.examples and self.examples.text_id,
            "not": [row.text_id for row in self.not_these],
        }
        given = {name: value for name, value in more.items() if value}
        return [self.category_id, self.name, self.text.text_id, *([given] if given else [])]


def artifacts_read(categories: Sequence[CategoryQuery]) -> dict[str, list[str]]:
    """Keys of the artifacts that the categories' rows and neighbours are in, by name."""
    texts = {row.key for each in categories for row in (each.text, *each.not_these)}
    examples = {each.examples.key for each in categories if each.examples}
    return {
        "texts": sorted(texts),
        "searches": sorted({each.search for each in categories}),
        **({"examples": sorted(examples)} if examples else {}),
    }


def load_neighbours(categories: Sequence[CategoryQuery], store: ArtifactStore) -> pa.Table:
    """All categories' neighbours, in order of the categories and then of rank.

    Returns:
        The columns of `search_index`, and `column`: int32, the category's index in `categories`.
    """
    found: dict[str, dict[str, pa.Table]] = {}
    tables = []
    for column, category in enumerate(categories):
        if category.search not in found:
            found[category.search] = _by_text(
                store.get(ArtifactRef("search_index", category.search))
            )
        table = found[category.search][category.searched.text_id]
        columns = pa.array(np.full(table.num_rows, column, dtype=np.int32))
        tables.append(table.append_column("column", columns))
    return pa.concat_tables(tables)


def sampled_positions(count: int) -> np.ndarray:
    """int64 positions of an even sample of `count` rows: at most 4,096, in ascending order."""
    return np.unique(np.linspace(0, count - 1, _SAMPLED).astype(np.int64))


def embeddings_of(rows: IndexRows, positions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The embeddings of each category's images, float64 [n, d].

    They are read for many categories at a time: each part of the index costs requests on object
    stores.

    Args:
        rows: of the index.
        positions: int64 [n] in the index, of each category; n is at least 1.
    """
    for start in range(0, len(positions), _CATEGORIES_READ_AT_ONCE):
        several = positions[start : start + _CATEGORIES_READ_AT_ONCE]
        distinct, places = np.unique(np.concatenate(several), return_inverse=True)
        images = rows.fetch(distinct)
        for own in np.split(places, np.cumsum([len(some) for some in several])[:-1]):
            yield images[own].astype(np.float64)


def _by_text(search: Artifact) -> dict[str, pa.Table]:
    with search.open(NEIGHBOURS) as file:
        table = read_parquet(file)
    ids = table["text_id"].to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    ends = np.append(starts[1:], len(ids))
    return {ids[start]: table.slice(start, end - start)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)}  # fmt: skip
