"""Exact inner-product search over float16 rows that need not fit into memory.

FAISS's flat index is the fastest exact search on float32 that fits; its float16 quantiser has no
matrix-product path. Here rows stream through a buffer of fixed size: converted, multiplied with
all queries at once, and only scores that could belong to a query's best k are kept: those less
than float32's rounding error below its current k-th best. The kept rows are scored again in
float64, which makes the order exact on any hardware and for any split of the rows into blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from storage.embeddings.parts import Block

# Rows multiplied at once on a CPU: few enough for their float32 copy to stay in its cache.
CPU_BLOCK_ROWS = 2_048
# Rows whose scores are compared in one go; a GPU multiplies as many at once.
_ROWS_OFFERED_AT_ONCE = 16_384

# Candidates a query may hold beyond k. Where more rows than that are too close for float32, such as
# copies of one image, float64 decides at once instead of at the end.
_CROWD = 1_024

# Queries whose candidates are fetched in one go, which bounds their memory.
_RESCORED_TOGETHER = 64

# Half a unit in the last place of float32: the relative error of one rounding.
_UNIT_ROUNDOFF = 2.0**-24


def exact_search(
    blocks: Iterable[Block],
    queries: np.ndarray,
    k: int,
    *,
    fetch: Callable[[np.ndarray], np.ndarray],
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of largest inner product for every query.

    Args:
        blocks: float16 rows [n_i, d], in any sizes; each is held only while it is scored.
        queries: float32 [q, d].
        k: how many, at most the number of rows.
        fetch: gives the rows at int64 positions [m], for the last scoring in float64.
        device: where the products are computed.

    Returns:
        scores float32 [q, k], descending, and positions int64 [q, k], in the order of the scores
        in float64. Equal scores are in order of position.
    """
    if not len(queries):
        return np.empty((0, k), dtype=np.float32), np.empty((0, k), dtype=np.int64)
    finalists = _Candidates(queries, k, fetch, device)
    by_column = torch.from_numpy(np.ascontiguousarray(queries.T, dtype=np.float32)).to(device)
    multiply = _Multiplier(by_column)
    for block in blocks:
        for start in range(0, len(block.rows), _ROWS_OFFERED_AT_ONCE):
            rows = block.rows[start : start + _ROWS_OFFERED_AT_ONCE]
            scores, largest_norm = multiply(rows)
            finalists.offer(scores, block.start + start, largest_norm)
    return rescore(finalists.positions(), queries, k, fetch)


class _Multiplier:
    """Products of float16 rows with all queries, through buffers that are used again and again."""

    def __init__(self, by_column: torch.Tensor) -> None:
        on_cpu = by_column.device.type == "cpu"
        step = CPU_BLOCK_ROWS if on_cpu else _ROWS_OFFERED_AT_ONCE
        self._by_column = by_column
        self._rows = by_column.new_empty((step, len(by_column)))
        self._products = by_column.new_empty((_ROWS_OFFERED_AT_ONCE, by_column.shape[1]))

    def __call__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [n, q] of rows [n, d], valid until the next call, and the rows' largest norm."""
        largest_norm = self._rows.new_zeros(())
        for start in range(0, len(rows), len(self._rows)):
            here = self._rows[: min(len(self._rows), len(rows) - start)]
            here.copy_(_as_tensor(rows[start : start + len(here)]))
            # rows @ queries.T and not the other way round: about a tenth faster on a CPU
            products = self._products[start : start + len(here)]
            torch.mm(here, self._by_column, out=products)
            norms = torch.linalg.vector_norm(here, dim=1)
            largest_norm = torch.maximum(largest_norm, norms.max())
        return self._products[: len(rows)], largest_norm


def _flat_nonzero(mask: torch.Tensor) -> torch.Tensor:
    """Flat int64 indices of true values; numpy finds a few among many six times faster."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.reshape(-1).nonzero()[:, 0]


def _as_tensor(rows: np.ndarray) -> torch.Tensor:
    """float16 rows without copying, except where torch would warn that it can't write to them."""
    if rows.dtype != np.float16:
        raise TypeError(f"rows must be float16, not {rows.dtype}")
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy())


def rescore(
    candidates: list[np.ndarray],
    queries: np.ndarray,
    k: int,
    fetch: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Order candidates by their inner products in float64, ties by position, and keep k.

    Args:
        candidates: for every query, int64 positions, at least k of them.
        queries: float32 [q, d].
        k: how many to keep.
        fetch: gives the rows at int64 positions [m].

    Returns:
        scores float32 [q, k] and positions int64 [q, k].
    """
    scores = np.empty((len(queries), k), dtype=np.float32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), _RESCORED_TOGETHER):
        group = slice(start, start + _RESCORED_TOGETHER)
        distinct = np.unique(np.concatenate(candidates[group]))
        rows = fetch(distinct)
        for number, query in enumerate(queries[group].astype(np.float64), start):
            found = np.sort(candidates[number])
            # A sum of products, not a matrix product: BLAS may order its additions by shape.
            products = (rows[np.searchsorted(distinct, found)] * query).sum(axis=1)
            best = np.lexsort((found, -products))[:k]
            scores[number], positions[number] = products[best], found[best]
    return scores, positions


class _Candidates:
    """All rows so far that may be among the best k of a query.

    A float32 product errs by at most `d u |row| |query|`, in any order of summation. A row
    whose score is more than twice that below the k-th best score is beaten by k rows for certain;
    all others stay. Scores above this threshold are put aside and sorted in only when many have
    gathered: after the first blocks hardly any score passes, and a sort a block would cost more
    than the product.
    """

    def __init__(
        self,
        queries: np.ndarray,
        k: int,
        fetch: Callable[[np.ndarray], np.ndarray],
        device: str,
    ) -> None:
        self._queries = queries
        self._k = k
        self._fetch = fetch
        norms = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        # One roundoff a dimension, and one spare for those of the norms and of the threshold.
        doubt = 2 * (queries.shape[1] + 1) * _UNIT_ROUNDOFF * norms
        self._doubt = torch.from_numpy(doubt.astype(np.float32)).to(device)
        self._largest_norm = torch.zeros((), device=device)
        self._threshold = torch.full((len(queries), 1), -torch.inf, device=device)
        self._scores = torch.empty((len(queries), 0), device=device)
        self._positions = torch.empty((len(queries), 0), dtype=torch.int64, device=device)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._waiting_count = 0

    def offer(self, scores: torch.Tensor, start: int, largest_norm: torch.Tensor) -> None:
        """Consider scores [n, q] of the rows at start, start + 1, ..., of norms up to a largest."""
        self._largest_norm = torch.maximum(self._largest_norm, largest_norm)
        threshold = self._threshold
        if self._scores.shape[1] < self._k <= len(scores):  # nothing to compare with yet
            threshold = torch.maximum(threshold, self._safe_threshold(scores.T))
        passing = _flat_nonzero(scores >= threshold.T)
        row, query = passing // scores.shape[1], passing % scores.shape[1]
        self._waiting.append((query, row + start, scores.reshape(-1)[passing]))
        self._waiting_count += len(passing)
        if self._waiting_count > len(self._queries) * (self._k + _CROWD):
            self._sort_in()

    def positions(self) -> list[np.ndarray]:
        """For every query, int64 positions of its best, in no order."""
        self._sort_in()
        return [
            positions[torch.isfinite(scores)].cpu().numpy()
            for scores, positions in zip(self._scores, self._positions, strict=True)
        ]

    def _safe_threshold(self, scores: torch.Tensor) -> torch.Tensor:
        """[q, 1], from scores [q, n >= k]: rows below it can't be among the best k."""
        worst_of_best = scores.topk(self._k, dim=1).values[:, -1:]
        return worst_of_best - self._doubt * self._largest_norm

    def _sort_in(self) -> None:
        if not self._waiting:
            return
        scores, positions = self._waiting_by_query()
        scores = torch.cat([self._scores, scores], dim=1)
        positions = torch.cat([self._positions, positions], dim=1)
        if scores.shape[1] >= self._k:
            self._threshold = torch.maximum(self._threshold, self._safe_threshold(scores))
        scores[scores < self._threshold] = -torch.inf
        for query in (
            (torch.isfinite(scores).sum(dim=1) > self._k + _CROWD).nonzero()[:, 0].tolist()
        ):
            self._decide(query, scores[query], positions[query])
        width = int(torch.isfinite(scores).sum(dim=1).max())
        self._scores, kept = scores.topk(width, dim=1)
        self._positions = positions.gather(1, kept)

    def _waiting_by_query(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The waiting scores, as scores [q, w] and positions [q, w], filled up with -inf."""
        query, position, score = (torch.cat(column) for column in zip(*self._waiting, strict=True))
        self._waiting, self._waiting_count = [], 0
        order = torch.argsort(query, stable=True)
        query, position, score = query[order], position[order], score[order]
        counts = torch.bincount(query, minlength=len(self._queries))
        column = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
        scores = self._scores.new_full((len(self._queries), int(counts.max())), -torch.inf)
        positions = self._positions.new_zeros(scores.shape)
        scores[query, column], positions[query, column] = score, position
        return scores, positions

    def _decide(self, query: int, scores: torch.Tensor, positions: torch.Tensor) -> None:
        """Reduce the candidates of a crowded query, in place, to the exact best k."""
        candidates = positions[torch.isfinite(scores)].cpu().numpy()
        _, best = rescore([candidates], self._queries[query : query + 1], self._k, self._fetch)
        chosen = torch.from_numpy(best[0]).to(positions.device)
        scores[~torch.isin(positions, chosen)] = -torch.inf
