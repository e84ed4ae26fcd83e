"""Images in the rows of Parquet files, read some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from storage.containers.image_columns import (
    bytes_field,
    field_values,
    image_column,
    member_name,
    path_field,
    rejected_where_damaged,
)
from storage.containers.members import Member
from storage.containers.table_files import open_table, text_values
from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import CHANGED, EMPTY_FILE, FILE_TOO_LARGE, NO_BYTES

# Few rows at a time: a row may be an image of a hundred megabytes.
_ROWS_AT_ONCE = 8
_BUFFER_BYTES = 1 << 20


def parquet_images(file: Any, max_bytes: int) -> Iterator[Member]:
    """The images of an open table's rows, in order; rows without bytes are members, too.

    Raises:
        ImageRejected: `damaged_table`; the rows before the damage have been given then.
        Exception: foreign errors of reading.
    """
    with rejected_where_damaged():
        table = _opened(file)
        names = _columns(table)
    row = 0
    for group in range(table.num_row_groups):
        batches = table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=names)
        while True:
            with rejected_where_damaged():
                batch = next(batches, None)
                if batch is None:
                    break
                values = field_values(batch, names[0])
                paths = text_values(field_values(batch, names[1])) if names[1:] else []
            for number in range(len(values)):
                data = values[number].as_py()
                name = member_name(paths[number] if paths else None, row)
                read = partial(_checked, data, max_bytes)
                yield Member(name, row, len(data or b""), read)
                row += 1


def read_parquet_image(uri: str, row: int) -> bytes:
    """The bytes of the image in one row (from 0); rows before it in its group are passed over.

    Raises:
        ImageRejected: `changed` where the row isn't there, `damaged_table`.
        StorageError: the file can't be read.
    """
    with open_table(uri) as file, rejected_where_damaged():
        table = _opened(file)
        names = _columns(table)
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if row >= rows:
                row -= rows
                continue
            for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=names[:1]):
                if row < batch.num_rows:
                    return field_values(batch, names[0])[row].as_py() or b""
                row -= batch.num_rows
    raise ImageRejected(CHANGED, "the table has fewer rows")


def _opened(file: Any) -> pq.ParquetFile:
    # Arrow would read whole groups of rows, which may have gigabytes, before it gives the first.
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _columns(table: pq.ParquetFile) -> list[str]:
    schema = table.schema_arrow
    column = image_column(schema)
    if column is None:
        raise ImageRejected(CHANGED, "the table has no column of images any more")
    path = path_field(schema, column)
    return [bytes_field(schema, column), *([path] if path else [])]


def _checked(data: bytes | None, max_bytes: int) -> bytes:
    if data is None:
        raise ImageRejected(NO_BYTES)
    if not data:
        raise ImageRejected(EMPTY_FILE)
    if len(data) > max_bytes:
        raise ImageRejected(FILE_TOO_LARGE)
    return data
