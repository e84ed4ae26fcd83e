"""Candidate pairs are what a plain comparison of all rows would give, up to their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.embeddings.parts import write_embeddings
from tasks.duplicates import candidates
from tasks.duplicates.candidates import exact_nearest, pairs_across, pairs_within
from tasks.duplicates.local_rows import LocalRows


def local(path: Path, rows: np.ndarray) -> LocalRows:
    with path.open("wb") as file:
        write_embeddings(rows, file)
    return LocalRows(path, np.arange(len(rows)))


def unit_rows(count: int, seed: int, dimensions: int = 6) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def ignore(count: int) -> None:
    return None


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_QUERIES", 32)


def test_all_pairs_that_are_similar_enough_are_found_once(tmp_path: Path) -> None:
    rows = unit_rows(100, 0)
    scores = rows.astype(np.float64) @ rows.astype(np.float64).T
    expected = {(i, j) for i, j in np.argwhere(scores >= 0.9).tolist() if i < j}
    there = local(tmp_path / "rows.npy", rows)
    told: list[int] = []
    pairs = pairs_within(there, exact_nearest(there, 100), 0.9, told.append)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == sorted(expected)
    assert len(expected) > 20
    np.testing.assert_allclose(pairs.similarity, scores[pairs.first, pairs.second], atol=1e-6)
    assert told == [32, 32, 32, 4]


def test_few_neighbours_connect_many_equal_rows(tmp_path: Path) -> None:
    rows = np.repeat(unit_rows(2, 1), 70, axis=0)
    there = local(tmp_path / "rows.npy", rows)
    pairs = pairs_within(there, exact_nearest(there, 3), 0.99, ignore)
    assert len(pairs) < 3 * len(rows)
    reached = {0}
    for _ in range(len(rows)):
        edges = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        reached |= {end for edge in edges if reached & set(edge) for end in edge}
    assert reached == set(range(70))


def test_pairs_across_two_sets(tmp_path: Path) -> None:
    rows, others = unit_rows(50, 2), unit_rows(40, 3)
    scores = rows.astype(np.float64) @ others.astype(np.float64).T
    nearest = exact_nearest(local(tmp_path / "others.npy", others), 2)
    pairs = pairs_across(local(tmp_path / "rows.npy", rows), nearest, 0.8, ignore)
    expected = {
        (row, int(other))
        for row in range(50)
        for other in np.argsort(-scores[row])[:2]
        if scores[row, other] >= 0.8
    }
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected
    assert expected


def test_one_row_has_no_pair(tmp_path: Path) -> None:
    there = local(tmp_path / "rows.npy", unit_rows(1, 4))
    assert len(pairs_within(there, exact_nearest(there, 5), -1, ignore)) == 0
