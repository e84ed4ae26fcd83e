"""Embeddings of chosen images of an index, copied to a temporary file that is read many times.

Comparing every row with all others streams the rows once for each block of queries. The parts of an
index may be on an object store, of a few images each, and hold rows that were not chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from storage.embeddings.parts import Block, read_embeddings
from tasks.indexing.index_rows import IndexRows

_NAME = "rows.npy"
# Rows read at a time, as `index_rows` does.
_ROWS_AT_ONCE = 16_384


class LocalRows:
    """Rows of chosen images, numbered from 0 in the order of their positions in the index.

    Attributes:
        positions: int64 [n], ascending, of the images in the index.
    """

    def __init__(self, path: Path, positions: np.ndarray) -> None:
        self._path = path
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def blocks(self) -> Iterator[Block]:
        """All rows in order, in blocks; each is valid until the next."""
        start = 0
        with self._path.open("rb") as file:
            for rows in read_embeddings(file, _ROWS_AT_ONCE):
                yield Block(start, rows)
                start += len(rows)

    def fetch(self, numbers: np.ndarray) -> np.ndarray:
        """float16 rows [m, d] of int64 numbers [m]."""
        # Mapped for the moment only: a file that stays mapped counts as memory of this process.
        gathered: np.ndarray = np.load(self._path, mmap_mode="r", allow_pickle=False)[numbers]
        return gathered


@contextmanager
def local_rows(rows: IndexRows, positions: np.ndarray) -> Iterator[LocalRows]:
    """Copy rows to a temporary file, which goes with the block.

    Args:
        rows: of the index; positions: int64 [n], ascending, of images and not of their crops.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / _NAME
        _write(path, rows, positions)
        yield LocalRows(path, positions)


def _write(path: Path, rows: IndexRows, positions: np.ndarray) -> None:
    with path.open("wb") as file:
        written = 0
        for block in rows.blocks():
            first, end = np.searchsorted(positions, [block.start, block.start + len(block.rows)])
            chosen = block.rows[positions[first:end] - block.start]
            if not file.tell():
                header = {
                    "shape": (len(positions), block.rows.shape[1]),
                    "fortran_order": False,
                    "descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)),
                }
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(chosen).data)
            written += len(chosen)
            if written == len(positions):
                return
