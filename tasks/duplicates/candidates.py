"""Candidates for near-duplicates: images whose embeddings are close neighbours of each other's.

Blocks of rows are the queries of ordinary searches for a few neighbours, so that memory depends on
the neighbours and not on the pairs of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tasks.duplicates.local_rows import LocalRows
from tasks.indexing.approximate_search import ApproximateSearch
from tasks.indexing.index_rows import IndexRows

# Rows that are queries of one search. More need more memory, four bytes for each of the 16,384 rows
# that are scored at once; fewer read the rows more often.
_QUERIES = 2_048

Nearest = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""For queries float32 [q, d]: of what was found for any of them, int64 [m] numbers of the query and
of the found row, and float32 [m] similarities."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows, sorted by their numbers.

    Attributes:
        first, second: int64 [n], numbers of rows.
        similarity: float32 [n], inner products of their embeddings.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def exact_nearest(rows: LocalRows, k: int, device: str = "cpu") -> Nearest:
    """Search all of the rows for the k nearest."""
    from storage.embeddings.exact_search import exact_search

    most = min(k, len(rows))

    def nearest(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores, found = exact_search(rows.blocks(), queries, most, fetch=rows.fetch, device=device)
        return np.repeat(np.arange(len(queries)), most), found.reshape(-1), scores.reshape(-1)

    return nearest


def approximate_nearest(search: ApproximateSearch, rows: IndexRows, k: int) -> Nearest:
    """Search an approximate index for the k nearest, as far as it finds them.

    Found rows are numbered by the positions of their images; an image with several crops counts
    with its most similar one.
    """
    most = min(k * rows.max_rows_per_image, len(rows))

    def nearest(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = search(queries, most)
        query = np.repeat(np.arange(len(queries)), [len(positions) for positions in found])
        positions = np.concatenate(found)
        if not len(positions):
            return query, positions, np.empty(0, np.float32)
        distinct = np.unique(positions)
        fetched = rows.fetch(distinct)
        # Sums of products, not a matrix product, as in `exact_search.rescore`.
        similarity = [
            (fetched[np.searchsorted(distinct, of_one)] * row).sum(axis=1)
            for of_one, row in zip(found, queries.astype(np.float64), strict=True)
        ]
        return query, rows.image_of(positions), np.concatenate(similarity).astype(np.float32)

    return nearest


def pairs_within(
    rows: LocalRows, nearest: Nearest, least: float, advance: Callable[[int], None]
) -> Pairs:
    """Pairs of different rows of which one is among the nearest of the other.

    Args:
        rows: the queries, of the numbering that `nearest` has.
        nearest: a search that finds the query itself, too.
        least: the smallest similarity of a pair.
        advance: is told how many queries were searched.
    """
    first, second, similarity = _search(rows, nearest, least, advance)
    different = first != second
    first, second, similarity = first[different], second[different], similarity[different]
    low, high = np.minimum(first, second), np.maximum(first, second)
    # A pair that was found from both ends is one; with crops, the more similar of them counts.
    order = np.lexsort((-similarity, high, low))
    low, high = low[order], high[order]
    new = np.append(True, (np.diff(low) != 0) | (np.diff(high) != 0))[: len(low)]
    return Pairs(low[new], high[new], similarity[order][new])


def pairs_across(
    rows: LocalRows, nearest: Nearest, least: float, advance: Callable[[int], None]
) -> Pairs:
    """Pairs of a row (`first`) and one of another set (`second`) that is among its nearest there;
    arguments as of `pairs_within`."""
    first, second, similarity = _search(rows, nearest, least, advance)
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], similarity[order])


def _search(
    rows: LocalRows, nearest: Nearest, least: float, advance: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = list(_blocks(rows, nearest, least, advance))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    first, second, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    return first, second, similarity


def _blocks(
    rows: LocalRows, nearest: Nearest, least: float, advance: Callable[[int], None]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), _QUERIES):
        numbers = np.arange(start, min(start + _QUERIES, len(rows)))
        query, found, similarity = nearest(rows.fetch(numbers).astype(np.float32))
        close = similarity >= least
        yield query[close] + start, found[close], similarity[close]
        advance(len(numbers))
