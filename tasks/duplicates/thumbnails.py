"""Thumbnails of images that are to be compared, in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from storage.errors.exceptions import ImageRejected
from storage.images.decoding import decoded
from storage.images.memory_budget import hold_for_file
from tasks.duplicates.comparison import THUMBNAIL_SIDE
from tasks.indexing.source_images import read_source_image
from tasks.workers.reading_ahead import in_order

COLUMNS = ("image_id", "uri", "member", "offset", "length", "height", "width")
"""Of the records from which thumbnails are read, and pairs described."""

_NAME = "thumbnails"
_SHAPE = (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
# Records turned into Python objects at a time.
_RECORDS_AT_ONCE = 4_096


class Thumbnails:
    """Thumbnails of m images, numbered as their records.

    Attributes:
        readable: bool [m]; the others have none, since they can't be decoded.
    """

    def __init__(self, path: Path, readable: np.ndarray) -> None:
        self._path = path
        self.readable = readable

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """uint8 [n, 48, 48, 3] of int64 numbers [n]."""
        # Mapped for the moment only: a file that stays mapped counts as memory of this process.
        mapped = np.memmap(self._path, np.uint8, "r", shape=(len(self.readable), *_SHAPE))
        return np.asarray(mapped[numbers])


@contextmanager
def thumbnails_of(records: pa.Table, threads: int) -> Iterator[Thumbnails]:
    """Read images and make them small; the temporary file goes with the block.

    Args:
        records: `COLUMNS` of the images.
        threads: that read and decode.

    Raises:
        CorpusError: an image is missing or has changed since it was indexed.
        StorageError: a server has a transient error.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / _NAME
        readable = np.zeros(records.num_rows, np.bool_)
        with path.open("wb") as file:
            for number, pixels in enumerate(_all(records, threads)):
                readable[number] = pixels is not None
                file.write((np.zeros(_SHAPE, np.uint8) if pixels is None else pixels).tobytes())
        yield Thumbnails(path, readable)


def _all(records: pa.Table, threads: int) -> Iterator[np.ndarray | None]:
    with ThreadPoolExecutor(threads, thread_name_prefix="thumbnail") as pool:
        try:
            futures = (
                (pool.submit(_thumbnail, row), max(0, row["length"]))
                for start in range(0, records.num_rows, _RECORDS_AT_ONCE)
                for row in records.slice(start, _RECORDS_AT_ONCE).to_pylist()
            )
            yield from in_order(futures, ahead=4 * threads)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _thumbnail(record: Mapping[str, Any]) -> np.ndarray | None:
    """uint8 [48, 48, 3]; None where the image can't be decoded."""
    with hold_for_file(record["length"]):
        data = read_source_image(record)
        try:
            with decoded(data) as found:
                return make_thumbnail(found.image)
        except ImageRejected:
            return None


def make_thumbnail(image: Image.Image) -> np.ndarray:
    """uint8 [48, 48, 3] of an RGB image, squeezed into a square."""
    small = image.resize(_SHAPE[:2], Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(small)
