"""Embedding parts: float16 rows of unit length in `.npy` files, which numpy can memory-map."""

from __future__ import annotations

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
    with np.errstate(over="ignore"):  # what float16 can't hold becomes infinite, and is refused
        converted = rows.astype(np.float16)
    if not np.isfinite(converted).all():
        raise ArtifactError(
            "The CLIP model gave an embedding that is not finite: use --precision float32, and "
            "check the weights with `zutis weights check`."
        )
    return converted


def write_embeddings(rows: np.ndarray, file: IO[bytes]) -> None:
    """Write rows [n, d] as a version-1 `.npy` file, sequentially."""
    np.lib.format.write_array(file, np.ascontiguousarray(rows), version=(1, 0), allow_pickle=False)


def open_embeddings(artifact: Artifact, name: str) -> np.ndarray:
    """Rows [n, d] of a checked file: memory-mapped on a local disk, read elsewhere.

    Raises:
        ArtifactError: if the file is missing, damaged, or no array of plain numbers.
    """
    path = artifact.local_path(name)
    try:
        if path is not None:
            mapped: np.ndarray = np.lib.format.open_memmap(path, mode="r")
            return mapped
        with artifact.open(name) as file:
            loaded: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            return loaded
    except ValueError as error:
        raise ArtifactError(
            f"{artifact.uri(name)} is not an .npy file of plain numbers ({error}); rebuild it with "
            "--repair, or remove it."
        ) from error
