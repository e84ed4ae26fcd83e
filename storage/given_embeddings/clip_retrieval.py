"""The folders that clip-retrieval writes: `img_emb/img_emb_K.npy`, `metadata/metadata_K.parquet`.

The rows of a pair belong together, one an image. The metadata names the image in `image_path`: its
path, or the key of its sample in a tar.

Dimensions:
    n  images of a pair of files
    d  width of an embedding
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from storage.containers.table_files import (
    open_table,
    table_batches,
    table_errors,
    table_schema,
    text_values,
)
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display
from storage.files.regular_files import open_regular

EMBEDDINGS_FOLDER: Final = "img_emb"
_METADATA_FOLDER: Final = "metadata"
_NAMES: Final = ("image_path", "key", "url")
"""Columns that may name an image, the best first."""
_ROWS_AT_ONCE: Final = 16_384
_NUMBERED = re.compile(r"img_emb_(\d+)\.npy")


@dataclass(frozen=True)
class Pair:
    """A file of embeddings and the metadata of its images."""

    embeddings: Path
    metadata: Path


def pairs_of(folder: Path) -> list[Pair]:
    """The files of a folder, by their numbers.

    Raises:
        CorpusError: there are none, or the metadata of some embeddings is missing.
    """
    found = {}
    for path in (folder / EMBEDDINGS_FOLDER).iterdir():
        if match := _NUMBERED.fullmatch(path.name):
            found[match[1]] = path
    if not found:
        raise CorpusError(
            f"{display(str(folder / EMBEDDINGS_FOLDER))} has no file img_emb_0.npy or the like: "
            "name the folder that clip-retrieval wrote."
        )
    pairs = []
    for number in sorted(found, key=lambda text: (int(text), text)):
        metadata = folder / _METADATA_FOLDER / f"metadata_{number}.parquet"
        if not metadata.is_file():
            raise CorpusError(
                f"{display(str(found[number]))} has no metadata beside it: "
                f"{display(str(metadata))} is missing, which names its images."
            )
        pairs.append(Pair(found[number], metadata))
    return pairs


def blocks_of(pair: Pair) -> Iterator[tuple[list[str], NDArray[Any]]]:
    """Names and rows [at most 16,384, d] of a pair, in order. Names that are null are ''.

    Raises:
        CorpusError: a file is damaged, or the two don't have the same number of rows.
    """
    names = _names(pair.metadata)
    left: list[str] = []
    with open_regular(pair.embeddings) as file:
        for rows in _rows(file, pair.embeddings):
            while len(left) < len(rows) and (more := next(names, None)) is not None:
                left += more
            if len(left) < len(rows):
                raise _unequal(pair)
            yield left[: len(rows)], rows
            left = left[len(rows) :]
    if left or next(names, []):
        raise _unequal(pair)


def _unequal(pair: Pair) -> CorpusError:
    return CorpusError(
        f"{display(str(pair.embeddings))} and {display(str(pair.metadata))} don't have the same "
        "number of rows, so that nothing says which embedding is of which image."
    )


def _names(path: Path) -> Iterator[list[str]]:
    uri = str(path)
    with open_table(uri) as file, table_errors(uri):
        columns = table_schema(file).names
        column = next((name for name in _NAMES if name in columns), None)
        if column is None:
            raise CorpusError(
                f"{display(uri)} names no image: it has none of the columns {', '.join(_NAMES)}."
            )
        file.seek(0)
        for batch in table_batches(uri, file, [column], {}):
            yield [str(value or "") for value in text_values(batch.column(column))]


def _rows(file: IO[bytes], path: Path) -> Iterator[NDArray[Any]]:
    """The rows of an `.npy` file of floating-point numbers, in blocks."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read_header(file)
        if len(shape) != 2 or fortran_order or dtype.kind != "f":
            raise ValueError(f"it holds {dtype} {shape}")
    except (ValueError, KeyError, EOFError) as error:
        raise CorpusError(
            f"{display(str(path))} is no .npy file with a row of numbers for each image ({error})."
        ) from error
    for start in range(0, shape[0], _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, shape[0] - start)
        data = file.read(count * shape[1] * dtype.itemsize)
        if len(data) < count * shape[1] * dtype.itemsize:
            raise CorpusError(f"{display(str(path))} ends early: it has fewer rows than it states.")
        yield np.frombuffer(data, dtype=dtype).reshape(count, shape[1])
