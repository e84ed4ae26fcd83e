"""Exact search against sums without rounding error: order, ties, shapes, and cuts into blocks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from storage.embeddings import exact_search as module
from storage.embeddings.exact_search import exact_search, rescore
from storage.embeddings.parts import Block


def cut(rows: np.ndarray, *sizes: int) -> Iterator[Block]:
    """The rows in blocks of these sizes, repeated in turn."""
    start = number = 0
    while start < len(rows):
        size = sizes[number % len(sizes)]
        yield Block(start, rows[start : start + size])
        start, number = start + size, number + 1


def search(rows: np.ndarray, queries: np.ndarray, k: int, *sizes: int):
    return exact_search(cut(rows, *sizes), queries, k, fetch=lambda positions: rows[positions])


def truth(rows: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every product of float16 and float32 fits into float64; fsum adds without error."""
    scores = np.array(
        [[math.fsum(row * query) for row in rows.astype(float)] for query in queries.astype(float)]
    )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def unit_rows(count: int, dimension: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def assert_exact(rows, queries, k, *sizes):
    scores, positions = search(rows, queries, k, *sizes)
    expected_scores, expected = truth(rows, queries, k)
    assert (scores.dtype, positions.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_random_shapes(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    count, dimension = int(rng.integers(1, 400)), int(rng.integers(1, 65))
    monkeypatch.setattr(module, "CPU_BLOCK_ROWS", int(rng.integers(1, 300)))
    monkeypatch.setattr(module, "_CROWD", int(rng.integers(0, 40)))
    k = count if seed % 4 == 0 else int(rng.integers(1, count + 1))
    queries = rng.normal(size=(int(rng.integers(1, 6)), dimension)).astype(np.float32)
    assert_exact(unit_rows(count, dimension, seed), queries, k, *rng.integers(1, 200, 3))


def test_more_queries_than_are_rescored_together():
    queries = np.random.default_rng(3).normal(size=(131, 8)).astype(np.float32)
    assert_exact(unit_rows(90, 8, 4), queries, 10, 37)


@pytest.mark.parametrize("crowd", [0, 5, 1_024])
def test_ties_are_in_order_of_position(monkeypatch, crowd):
    """Whole numbers: every product is exact, and nearly all scores tie at the k-th place."""
    monkeypatch.setattr(module, "_CROWD", crowd)
    monkeypatch.setattr(module, "CPU_BLOCK_ROWS", 64)
    rng = np.random.default_rng(5)
    rows = rng.integers(-1, 2, (700, 3)).astype(np.float16)
    queries = rng.integers(-2, 3, (6, 3)).astype(np.float32)
    assert_exact(rows, queries, 40, 100, 33)


def test_thousands_of_copies_of_one_row():
    rows = np.repeat(unit_rows(3, 32, 6), 3_000, axis=0)
    queries = rows[[0, 3_000, 6_000]].astype(np.float32)
    _, positions = search(rows, queries, 50, 1_000)
    np.testing.assert_array_equal(positions, np.add.outer([0, 3_000, 6_000], np.arange(50)))


def test_rows_too_close_for_float32():
    """Scores that differ by less than float32 resolves, in descending order of position."""
    rng = np.random.default_rng(7)
    query = (1 + rng.random((1, 200)) * 2**-20).astype(np.float32)
    rows = np.ones((500, 200), dtype=np.float16)
    rows[np.arange(500), rng.integers(0, 200, 500)] = 0.5
    assert_exact(rows, query, 60, 77)


def test_negative_scores():
    rows = -np.abs(unit_rows(50, 6, 8))
    queries = np.abs(np.random.default_rng(9).normal(size=(2, 6))).astype(np.float32)
    assert_exact(rows, queries, 20, 7)


def test_cuts_do_not_matter(monkeypatch):
    rows = unit_rows(5_000, 64, 10)
    queries = unit_rows(9, 64, 11).astype(np.float32)
    whole = search(rows, queries, 100, 5_000)
    monkeypatch.setattr(module, "CPU_BLOCK_ROWS", 501)
    for sizes in ((1_999,), (1, 700), (64,)):
        for one, other in zip(whole, search(rows, queries, 100, *sizes), strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_queries():
    scores, positions = search(unit_rows(5, 4, 0), np.empty((0, 4), np.float32), 3, 5)
    assert scores.shape == positions.shape == (0, 3)


def test_memory_mapped_rows_give_no_warning(tmp_path):
    np.save(tmp_path / "rows.npy", unit_rows(30, 4, 12))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_exact(rows, unit_rows(2, 4, 13).astype(np.float32), 5, 11)


def test_other_rows_than_float16_are_refused():
    """Rounding in between would break the guarantee."""
    with pytest.raises(TypeError):
        search(np.ones((3, 2), np.float32), np.ones((1, 2), np.float32), 1, 3)


def test_rescore_orders_its_candidates():
    rows = np.array([[1], [3], [2], [3]], dtype=np.float16)
    scores, positions = rescore(
        [np.array([3, 0, 1]), np.array([2, 0])], np.array([[1], [-1]], np.float32), 2,
        lambda wanted: rows[wanted],
    )  # fmt: skip
    assert positions.tolist() == [[1, 3], [0, 2]]
    assert scores.tolist() == [[3, 3], [-1, -2]]
