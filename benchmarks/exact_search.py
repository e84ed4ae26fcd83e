"""Our exact search against FAISS's flat index, on the same vectors in the same run.

Random unit rows are in float16 parts on a disk. FAISS holds them as float32 in memory and is
timed at two settings of `distance_compute_blas_threshold`, of which the better counts; loading is
not counted. Ours maps one part at a time and converts as it goes, all of which counts. The two
take turns, each in a process of its own, and medians are compared.

The order of our result is checked against sums without any rounding error: a product of a float16
and a float32 number is exact in float64, and `math.fsum` rounds their sum once. A wrong order ends
the benchmark with an error.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import (
    Figure,
    Report,
    Stopwatch,
    argument_parser,
    in_fresh_process,
    load_average,
    memory_mb,
    peak_memory_mb,
    publish,
    use_cores,
)

if TYPE_CHECKING:
    from storage.embeddings.parts import Block

_MOST_TIMES_FAISS = 2.0
_MEMORY_BESIDE_A_QUARTER_MB = 500.0
_BLAS_THRESHOLDS = (16, 20)  # the best known for few queries, and FAISS's default
_WARM_UP_ROWS = 50_000
_QUERIES = "queries.npy"


@dataclass(frozen=True)
class Size:
    """rows x dimensions, searched for k neighbours of each query; rows are in parts."""

    rows: int
    dimensions: int
    queries: int
    k: int
    parts: int

    @property
    def float32_mb(self) -> float:
        return self.rows * self.dimensions * 4 / 1e6


def make_rows(folder: Path, size: Size, seed: int) -> None:
    """Write `part-NNN.npy`, float16 unit rows, and `queries.npy`, float32 unit rows."""
    generator = np.random.default_rng(seed)
    bounds = np.linspace(0, size.rows, size.parts + 1).astype(int)
    for number, count in enumerate(np.diff(bounds)):
        rows = _unit_rows(generator, int(count), size.dimensions)
        np.save(folder / f"part-{number:03d}.npy", rows.astype(np.float16))
    np.save(folder / _QUERIES, _unit_rows(generator, size.queries, size.dimensions))


def _unit_rows(generator: np.random.Generator, count: int, dimensions: int) -> np.ndarray:
    rows = generator.standard_normal((count, dimensions), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Parts:
    """Embedding parts on a disk, streamed one after another as `tasks.indexing.index_rows` does."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("part-*.npy"))
        self._starts = np.cumsum([0, *(len(self._open(path)) for path in self.paths)])

    def blocks(self) -> Iterator[Block]:
        from storage.embeddings.parts import Block, read_embeddings

        for start, path in zip(self._starts, self.paths, strict=False):
            position = int(start)
            with path.open("rb") as file:
                for rows in read_embeddings(file, 16_384):
                    yield Block(position, rows)
                    position += len(rows)

    def fetch(self, positions: np.ndarray) -> np.ndarray:
        """float16 rows [m, d] at int64 positions [m]."""
        part = np.searchsorted(self._starts, positions, side="right") - 1
        first = self._open(self.paths[0])
        gathered = np.empty((len(positions), first.shape[1]), dtype=first.dtype)
        for number in np.unique(part):
            wanted = part == number
            rows = self._open(self.paths[number])
            gathered[wanted] = rows[positions[wanted] - self._starts[number]]
        return gathered

    @staticmethod
    def _open(path: Path) -> np.ndarray:
        return np.load(path, mmap_mode="r")


def search_with_faiss(folder: Path, k: int, searches: int) -> dict[str, Any]:
    """Seconds of every search by BLAS threshold, and the positions that FAISS finds."""
    import faiss

    queries = np.load(folder / _QUERIES)
    index = faiss.IndexFlatIP(queries.shape[1])
    for path in Parts(folder).paths:
        index.add(np.load(path).astype(np.float32))
    _warm_up_faiss(queries, k)
    seconds: dict[int, list[float]] = {threshold: [] for threshold in _BLAS_THRESHOLDS}
    for _ in range(searches):
        for threshold, times in seconds.items():
            faiss.cvar.distance_compute_blas_threshold = threshold
            with Stopwatch() as watch:
                _, positions = index.search(queries, k)
            times.append(watch.wall)
    return {"seconds": seconds, "positions": positions, "peak_mb": peak_memory_mb()}


def _warm_up_faiss(queries: np.ndarray, k: int) -> None:
    import faiss

    index = faiss.IndexFlatIP(queries.shape[1])
    index.add(np.zeros((_WARM_UP_ROWS, queries.shape[1]), dtype=np.float32))
    index.search(queries, min(k, _WARM_UP_ROWS))


def search_with_ours(folder: Path, k: int, searches: int) -> dict[str, Any]:
    """Seconds of every search, its results, and the memory of a process that does nothing else."""
    from storage.embeddings.exact_search import exact_search
    from storage.embeddings.parts import Block

    imported_mb = memory_mb()
    queries, parts = np.load(folder / _QUERIES), Parts(folder)
    zeros = np.zeros((max(k, 4 * 2_048), queries.shape[1]), dtype=np.float16)
    exact_search([Block(0, zeros)], queries, k, fetch=lambda positions: zeros[positions])
    seconds = []
    for _ in range(searches):
        with Stopwatch() as watch:
            scores, positions = exact_search(parts.blocks(), queries, k, fetch=parts.fetch)
        seconds.append(watch.wall)
    found = {"seconds": seconds, "scores": scores, "positions": positions}
    return found | {"peak_mb": peak_memory_mb(), "imported_mb": imported_mb}


def seconds_to_hash(folder: Path) -> float:
    """Seconds that a store adds when it opens the parts for the first time in a process."""
    with Stopwatch() as watch:
        for path in Parts(folder).paths:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")
    return watch.wall


def exact_neighbours(folder: Path, k: int) -> np.ndarray:
    """Positions int64 [q, k] of the largest inner products, computed without rounding error.

    float64 products choose the candidates, many more than k, and exact sums order them; equal sums
    are in order of position.
    """
    queries, parts = np.load(folder / _QUERIES).astype(np.float64), Parts(folder)
    scores = np.empty((len(queries), 0))
    positions = np.empty((len(queries), 0), dtype=np.int64)
    for block in parts.blocks():
        new = queries @ block.rows.astype(np.float64).T
        scores = np.concatenate([scores, new], axis=1)
        numbers = np.broadcast_to(np.arange(new.shape[1]) + block.start, new.shape)
        positions = np.concatenate([positions, numbers], axis=1)
        if scores.shape[1] > k + 64:
            best = np.argpartition(-scores, k + 64, axis=1)[:, : k + 64]
            scores = np.take_along_axis(scores, best, axis=1)
            positions = np.take_along_axis(positions, best, axis=1)
    return np.stack(
        [_order_exactly(query, np.sort(row), parts, k)
         for query, row in zip(queries, positions, strict=True)]
    )  # fmt: skip


def _order_exactly(query: np.ndarray, candidates: np.ndarray, parts: Parts, k: int) -> np.ndarray:
    products = parts.fetch(candidates) * query
    sums = np.array([math.fsum(row) for row in products.tolist()])
    return candidates[np.lexsort((candidates, -sums))[:k]]


def measure(folder: Path, k: int, rounds: int, searches: int) -> dict[str, Any]:
    """Run the two in turns, and check their results. The last result of each is kept."""
    faiss_seconds: dict[int, list[float]] = {threshold: [] for threshold in _BLAS_THRESHOLDS}
    our_seconds: list[float] = []
    peaks: list[float] = []
    for number in range(rounds):
        theirs = in_fresh_process(search_with_faiss, folder, k, searches)
        ours = in_fresh_process(search_with_ours, folder, k, searches)
        for threshold, seconds in theirs["seconds"].items():
            faiss_seconds[threshold] += seconds
        our_seconds += ours["seconds"]
        peaks.append(ours["peak_mb"])
        print(f"round {number + 1}: FAISS {theirs['seconds']}, ours {ours['seconds']}", flush=True)
    exact = in_fresh_process(exact_neighbours, folder, k)
    if not np.array_equal(ours["positions"], exact):
        wrong = int((ours["positions"] != exact).any(axis=1).sum())
        raise SystemExit(f"The order of {wrong} of {len(exact)} queries is not exact.")
    return {
        "faiss_seconds": faiss_seconds,
        "our_seconds": our_seconds,
        "peak_mb": max(peaks),
        "imported_mb": ours["imported_mb"],
        "faiss_peak_mb": theirs["peak_mb"],
        "queries_with_faiss_set": _equal_sets(theirs["positions"], exact),
        "hash_seconds": in_fresh_process(seconds_to_hash, folder),
    }


def _equal_sets(found: np.ndarray, exact: np.ndarray) -> int:
    return int((np.sort(found, axis=1) == np.sort(exact, axis=1)).all(axis=1).sum())


def figures(measured: dict[str, Any], size: Size) -> list[Figure]:
    by_threshold = {t: median(seconds) for t, seconds in measured["faiss_seconds"].items()}
    ours, best = median(measured["our_seconds"]), min(by_threshold.values())
    memory_limit = size.float32_mb / 4 + _MEMORY_BESIDE_A_QUARTER_MB
    return [
        *(Figure(f"FAISS, BLAS threshold {t}", s, "s") for t, s in by_threshold.items()),
        Figure("ours", ours, "s"),
        Figure("ours / FAISS at its best", ours / best, "times", _MOST_TIMES_FAISS),
        Figure("peak memory, ours", measured["peak_mb"], "MB", memory_limit),
        Figure("of it after imports", measured["imported_mb"], "MB"),
        Figure("peak memory, FAISS (filling it included)", measured["faiss_peak_mb"], "MB"),
        Figure("queries in exact order, ours", size.queries, "queries"),
        Figure("queries with the exact set, FAISS", measured["queries_with_faiss_set"], "queries"),
        Figure("checksums of the parts, once a process", measured["hash_seconds"], "s"),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=80)
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--searches", type=int, default=2, help="searches a turn (2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to put the vectors for the time being")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    size = Size(options.rows, options.dimensions, options.queries, options.k, options.parts)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        in_fresh_process(make_rows, Path(name), size, options.seed)
        measured = measure(Path(name), size.k, options.rounds, options.searches)
    report = Report(
        benchmark="exact_search",
        sizes=vars(size) | {"threads": options.threads, "rounds": options.rounds},
        figures=figures(measured, size),
        samples={name: measured[name] for name in ("faiss_seconds", "our_seconds")},
        load=load,
    )
    publish(report, options.out)


if __name__ == "__main__":
    main()
