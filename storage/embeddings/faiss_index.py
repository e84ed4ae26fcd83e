"""Approximate indices: FAISS files made by a factory string, trained and filled in blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np

from storage.embeddings.parts import Block
from storage.errors.exceptions import ArtifactError, ConfigError, StorageError

# Graphs with fewer than two neighbours a node, and no clusters at all: FAISS does not refuse them,
# but ends the process, or never returns.
_FATAL = re.compile(r"(?:HNSW|NSG)0*[01](?!\d)|IVF0+(?!\d)")


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
    failure = _failure(factory, dimension)
    index = _make(factory, dimension)
    try:
        _set_seed(index, seed)
        index.train(np.ascontiguousarray(sample, dtype=np.float32))
        for block in blocks:
            index.add(np.ascontiguousarray(block.rows, dtype=np.float32))
    except RuntimeError as error:
        raise ConfigError(
            f"{failure} from {len(sample)} sample rows: {_reason(error)}; choose another --index, "
            "or exact."
        ) from error
    return index


def check(factory: str, parameters: str, dimension: int, rows: int | None) -> None:
    """Check, before anything is embedded, that an index can be built and searched as configured.

    Args:
        factory: a FAISS factory string.
        parameters: for searching, such as `nprobe=16`.
        dimension: d.
        rows: the most rows that there will be to train on; None if unknown.

    Raises:
        ConfigError: FAISS doesn't know the factory string or the parameters, or needs more rows.
    """
    index = _make(factory, dimension)
    needed = _rows_to_train(index)
    if rows is not None and rows < needed:
        raise ConfigError(
            f"{_failure(factory, dimension)} from {rows:,} images: it needs {needed:,} to be "
            "trained on; choose another --index, or exact."
        )
    if parameters:
        _set_parameters(index, parameters)


def _failure(factory: str, dimension: int) -> str:
    return f"FAISS can't build the index {factory!r} of {dimension} dimensions"


def _make(factory: str, dimension: int) -> Any:
    """An empty index, not yet trained."""
    failure = _failure(factory, dimension)
    if fatal := _FATAL.search(factory):
        raise ConfigError(f"{failure}: {fatal[0]} is too few; choose another --index, or exact.")
    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, TypeError) as error:  # the latter where it is no text in UTF-8
        raise ConfigError(f"{failure}: {_reason(error)}; choose another --index, or exact.") from (
            error
        )


def _rows_to_train(index: Any) -> int:
    """The rows that FAISS insists on: one a cluster of an inverted file, and of a product
    quantiser, alone or behind a transform or an inverted file."""
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    ivf = faiss.try_extract_index_ivf(index)
    clusters = [1] if ivf is None else [int(ivf.nlist)]
    parts = [inner] if ivf is None else [inner, faiss.downcast_index(ivf)]
    return max(clusters + [int(part.pq.ksub) for part in parts if hasattr(part, "pq")])


def write(index: Any, path: str) -> None:
    """Write a file that `faiss.read_index` opens.

    Raises:
        StorageError: if it can't be written, as on a full disk.
    """
    try:
        faiss.write_index(index, path)
    except RuntimeError as error:
        raise StorageError(
            f"The index can't be written: {_reason(error)}; free some space there, or use another "
            "disk."
        ) from error


def read(path: str) -> Any:
    """Open an index file, memory-mapped where its type allows it.

    Raises:
        ArtifactError: if it is not there, or is no index.
    """
    try:
        return faiss.read_index(path, faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise ArtifactError(
            f"{path} is not an index that FAISS can open: {_reason(error)}; rebuild it with "
            "--repair."
        ) from error


def search(
    index: Any, queries: np.ndarray, k: int, parameters: str
) -> tuple[np.ndarray, np.ndarray]:
    """Search with settings such as `nprobe=16` or `efSearch=128`.

    Returns:
        scores float32 [q, k] and positions int64 [q, k]; -1 where the index gave fewer than k.

    Raises:
        ConfigError: if the index does not take the settings, or can't search with them.
    """
    if parameters:
        _set_parameters(index, parameters)
    try:
        # Some bad values fail only here, such as nprobe=0.
        scores, positions = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    except RuntimeError as error:
        raise _wrong_parameters(parameters, error) from error
    return scores, positions


def _set_parameters(index: Any, parameters: str) -> None:
    try:
        space: Any = faiss.ParameterSpace()
        space.set_index_parameters(index, parameters)
    except (RuntimeError, TypeError) as error:  # the latter where they are no text in UTF-8
        raise _wrong_parameters(parameters, error) from error


def _wrong_parameters(parameters: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"FAISS can't search this index with the parameters {parameters!r}: {_reason(error)}; "
        "give --index-search others, such as nprobe=16 (IVF) or efSearch=128 (HNSW)."
    )


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """recall@k: the share of the exact k [q, k] that was found [q, k], over all queries."""
    hits = sum(len(np.intersect1d(*rows)) for rows in zip(found, exact, strict=True))
    return hits / exact.size


def _set_seed(index: Any, seed: int) -> None:
    ivf = faiss.try_extract_index_ivf(index)  # which may be behind a transform or a refinement
    if ivf is not None:
        ivf.cp.seed = seed


def _reason(error: Exception) -> str:
    """FAISS's message, without the C++ signature and source line in front of it."""
    text = " ".join(str(error).split())
    text = re.sub(r"^Error in .*? at \S+:\d+: ", "", text)
    text = re.sub(r"^Error: '.*?' failed(?:: )?", "", text)
    return text.rstrip(".") or "it gives no reason"
