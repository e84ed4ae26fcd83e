"""Exact inner-product search over float16 rows that need not fit into memory.

FAISS's flat index is the fastest exact search on float32 that fits; its float16 quantiser has no
matrix-product path. Here rows stream through a buffer of fixed size: converted, multiplied with
all queries at once, and only scores above a query's current k-th best are looked at. The last
candidates are scored again in float64, which makes the order exact whatever the hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from storage.embeddings import Block

# Rows a block: small enough for its float32 copy to stay in the processor's cache. A GPU wants
# blocks that fill it.
CPU_BLOCK_ROWS = 2_048
GPU_BLOCK_ROWS = 131_072

# Candidates kept beyond k, so that float32 rounding at the k-th place can't lose a row.
_SLACK = 32

# Queries whose candidates are fetched in one go: bounds what is held of them.
_RESCORED_TOGETHER = 64


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
        blocks: float16 rows [n_i, d], in any sizes; each is held only while it is looked at.
        queries: float32 [q, d].
        k: how many, at most the number of rows.
        fetch: gives the rows at int64 positions [m], for the last scoring in float64.
        device: where the products are computed.

    Returns:
        scores float32 [q, k], descending, and positions int64 [q, k]. Equal scores are in order
        of position.
    """
    finalists = _Finalists(len(queries), k + _SLACK, device)
    on_device = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32)).to(device)
    block_rows = CPU_BLOCK_ROWS if device == "cpu" else GPU_BLOCK_ROWS
    buffer = torch.empty((block_rows, queries.shape[1]), dtype=torch.float32, device=device)
    staging = np.empty((block_rows, queries.shape[1]), dtype=np.float16)
    for block in blocks:
        for start in range(0, len(block.rows), block_rows):
            rows = buffer[: min(block_rows, len(block.rows) - start)]
            # A memory map is read-only; torch is told nothing it could write to.
            np.copyto(staging[: len(rows)], block.rows[start : start + len(rows)])
            rows.copy_(torch.from_numpy(staging[: len(rows)]))
            finalists.offer(on_device @ rows.T, block.start + start)
    return rescore(finalists.positions(), queries, k, fetch)


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


class _Finalists:
    """The best `size` scores of every query so far.

    Scores above a query's threshold are put aside and sorted in only when many have gathered:
    after the first blocks hardly any score passes, and a sort a block would cost more than the
    product.
    """

    def __init__(self, queries: int, size: int, device: str) -> None:
        self._size = size
        self._threshold = torch.full((queries, 1), -torch.inf, device=device)
        self._scores = torch.empty((queries, 0), device=device)
        self._positions = torch.empty((queries, 0), dtype=torch.int64, device=device)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._waiting_count = 0

    def offer(self, scores: torch.Tensor, start: int) -> None:
        """Consider scores [q, n] of the rows at positions start, start + 1, ..."""
        passing = (scores > self._threshold).nonzero()
        query, row = passing[:, 0], passing[:, 1]
        self._waiting.append((query, row + start, scores[query, row]))
        self._waiting_count += len(query)
        if self._waiting_count > self._threshold.numel() * self._size:
            self._sort_in()

    def positions(self) -> list[np.ndarray]:
        """For every query, int64 positions of its best, in no order."""
        self._sort_in()
        return [
            positions[torch.isfinite(scores)].cpu().numpy()
            for scores, positions in zip(self._scores, self._positions, strict=True)
        ]

    def _sort_in(self) -> None:
        if not self._waiting:
            return
        query, position, score = (torch.cat(column) for column in zip(*self._waiting, strict=True))
        self._waiting, self._waiting_count = [], 0
        order = torch.argsort(query, stable=True)
        query, position, score = query[order], position[order], score[order]
        counts = torch.bincount(query, minlength=self._threshold.numel())
        column = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
        width = int(counts.max())
        scores = self._scores.new_full((self._threshold.numel(), width), -torch.inf)
        positions = self._positions.new_zeros(scores.shape)
        scores[query, column], positions[query, column] = score, position
        scores = torch.cat([self._scores, scores], dim=1)
        positions = torch.cat([self._positions, positions], dim=1)
        self._scores, best = scores.topk(min(self._size, scores.shape[1]), dim=1)
        self._positions = positions.gather(1, best)
        if self._scores.shape[1] == self._size:
            self._threshold = self._scores[:, -1:].clone()
