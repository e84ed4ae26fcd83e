"""Approximate indices: a FAISS file made by a factory string, trained and filled in blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np

from storage.embeddings import Block
from storage.errors import ConfigError


def build(
    factory: str, dimension: int, sample: np.ndarray, blocks: Iterable[Block], *, seed: int
) -> Any:
    """Train and fill an index for inner products.

    Args:
        factory: a FAISS factory string, such as `IVF1024,Flat`, `HNSW32` or `IVF256,PQ64`.
        dimension: d.
        sample: float32 [m, d] rows to train on.
        blocks: float16 rows in order of position.
        seed: decides FAISS's clustering.

    Raises:
        ConfigError: if FAISS does not know the factory string or can't train it on the sample.
    """
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        _set_seed(index, seed)
        index.train(sample)
    except RuntimeError as error:
        raise ConfigError(
            f"FAISS can't build the index {factory!r} for {len(sample)} sample rows of {dimension} "
            f"dimensions: {_first_line(error)} Choose another --index, or exact."
        ) from error
    for block in blocks:
        index.add(np.ascontiguousarray(block.rows, dtype=np.float32))
    return index


def write(index: Any, path: str) -> None:
    """Write a file that `faiss.read_index` opens."""
    faiss.write_index(index, path)


def read(path: str) -> Any:
    """Open an index file, memory-mapped where its type allows it."""
    return faiss.read_index(path, faiss.IO_FLAG_MMAP)


def search(
    index: Any, queries: np.ndarray, k: int, parameters: str
) -> tuple[np.ndarray, np.ndarray]:
    """Search with settings such as `nprobe=16` or `efSearch=128`.

    Returns:
        scores float32 [q, k] and positions int64 [q, k]; -1 where the index gave fewer than k.
    """
    if parameters:
        try:
            space: Any = faiss.ParameterSpace()
            space.set_index_parameters(index, parameters)
        except RuntimeError as error:
            raise ConfigError(
                f"FAISS does not take the search parameters {parameters!r} for this index: "
                f"{_first_line(error)} Examples: nprobe=16 (IVF), efSearch=128 (HNSW)."
            ) from error
    scores, positions = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    return scores, positions


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """recall@k: the share of the exact k [q, k] that was found [q, k], over all queries."""
    hits = sum(len(np.intersect1d(row, truth)) for row, truth in zip(found, exact, strict=True))
    return hits / exact.size


def _set_seed(index: Any, seed: int) -> None:
    inner = faiss.downcast_index(getattr(index, "index", index))
    if isinstance(inner, faiss.IndexIVF):
        inner.cp.seed = seed


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()[0]
    return text.split("Error: ")[-1].strip().rstrip(".") + "."
