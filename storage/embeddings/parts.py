"""Embedding parts: float16 rows of unit length in `.npy` files, which numpy can memory-map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from storage.artifacts.store import Artifact
from storage.errors.exceptions import ArtifactError


@dataclass(frozen=True)
class Block:
    """Consecutive rows of an index: positions `start` to `start + len(rows)`.

    The rows are valid until the next block: blocks of one part share their memory.
    """

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


def read_embeddings(file: IO[bytes], rows_at_once: int) -> Iterator[np.ndarray]:
    """Stream the rows of an `.npy` file in order, through a buffer that is used again and again.

    Reading is faster than memory mapping for rows that are used once, needs no more memory
    than the buffer, and works on object stores as well.

    Args:
        file: what `write_embeddings` wrote.
        rows_at_once: rows of the buffer.

    Yields:
        float16 [m, d], m at most `rows_at_once`, valid until the next.

    Raises:
        ValueError: if the file is no such array, or ends early.
    """
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not of format 1.0")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 2 or fortran_order or dtype != np.float16:
        raise ValueError(f"holds {dtype} {shape}, not rows of float16")
    buffer = np.empty((min(rows_at_once, shape[0]), shape[1]), dtype=np.float16)
    for start in range(0, shape[0], rows_at_once):
        rows = buffer[: min(rows_at_once, shape[0] - start)]
        _read_into(file, rows.data.cast("B"))
        yield rows


def _read_into(file: IO[bytes], target: memoryview) -> None:
    while target:
        count = file.readinto(target)  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"ends {len(target)} bytes early")
        target = target[count:]


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
