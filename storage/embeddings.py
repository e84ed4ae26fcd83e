"""Embedding parts: float16 rows of unit length in `.npy` files, which numpy can memory-map."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

import numpy as np

from storage.artifacts import Artifact
from storage.errors import ArtifactError


@dataclass(frozen=True)
class Block:
    """Consecutive rows of an index: positions `start` to `start + len(rows)`."""

    start: int
    rows: np.ndarray


def to_float16_rows(rows: np.ndarray) -> np.ndarray:
    """Store rows [n, d] as float16, checking what no index survives.

    Raises:
        ArtifactError: if a row is not finite: a model that overflows must not fill an index.
    """
    if not np.isfinite(rows).all():
        raise ArtifactError(
            "The CLIP model gave an embedding that is not finite: use --precision float32, and "
            "check the weights with `zutis weights check`."
        )
    return rows.astype(np.float16)


def write_embeddings(rows: np.ndarray, file: IO[bytes]) -> None:
    """Write rows [n, d] as a version-1 `.npy` file, sequentially."""
    np.lib.format.write_array(file, np.ascontiguousarray(rows), version=(1, 0), allow_pickle=False)


def open_embeddings(artifact: Artifact, name: str) -> np.ndarray:
    """Rows [n, d] of a checked file: memory-mapped on a local disk, read elsewhere."""
    path = artifact.local_path(name)
    if path is not None and artifact.counts.get("images") != 0:  # nothing can't be mapped
        mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    with artifact.open(name) as file:
        loaded: np.ndarray = np.load(io.BytesIO(file.read()), allow_pickle=False)
    return loaded
