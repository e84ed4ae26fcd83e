"""Images in the rows of Arrow files, in the stream format of saved data sets or the file format.

Arrow keeps each value as it is, so that an image is a range of the file's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from storage.containers.image_columns import (
    bytes_field,
    field_values,
    image_column,
    member_name,
    path_field,
    rejected_where_damaged,
)
from storage.containers.members import Member
from storage.containers.table_files import text_values
from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import (
    COMPRESSED_TABLE,
    EMPTY_FILE,
    FILE_TOO_LARGE,
    NO_BYTES,
)

_FILE_FORMAT = b"ARROW1"
_FILE_FORMAT_HEAD = 8  # bytes before a stream begins


def arrow_images(file: Any, max_bytes: int) -> Iterator[Member]:
    """The images of an open Arrow file's rows, in order; rows without bytes are members, too.

    One batch of rows is in memory at a time.

    Raises:
        ImageRejected: `damaged_table`, after the rows before the damage; `compressed_table`;
            `no_bytes` where no column holds images.
        Exception: foreign errors of reading.
    """
    source = file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, mode="r")
    with rejected_where_damaged():
        is_file = source.read(len(_FILE_FORMAT)) == _FILE_FORMAT
        source.seek(_FILE_FORMAT_HEAD if is_file else 0)
        messages = pa.ipc.MessageReader.open_stream(source)
        schema = _schema(messages)
        column = image_column(schema)
    if column is None:
        raise ImageRejected(NO_BYTES, "no column holds images")
    row = 0
    while True:
        with rejected_where_damaged():
            message = _next(messages)
            if message is None:
                return
            if message.type != "record batch":
                continue
            batch = pa.ipc.read_record_batch(message, schema)
            starts, lengths, present = _places(batch, bytes_field(schema, column), message.body)
            starts = starts + (source.tell() - message.body.size)
            path = path_field(schema, column)
            paths = text_values(field_values(batch, path)) if path else [None] * len(starts)
        body, base = message.body, source.tell() - message.body.size
        for number, name in enumerate(paths):
            start, length = int(starts[number]), int(lengths[number])
            read = partial(_checked, body, start - base, length, bool(present[number]), max_bytes)
            yield Member(member_name(name, row), start, length, read)
            row += 1


def _schema(messages: Any) -> pa.Schema:
    message = _next(messages)
    if message is None:
        raise EOFError("the file is empty")
    return pa.ipc.read_schema(message)


def _next(messages: Any) -> Any:
    try:
        return messages.read_next_message()
    except StopIteration:
        return None


def _places(
    batch: pa.RecordBatch, path: str, body: pa.Buffer
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First byte in the batch's body, length, and presence of each value."""
    values = field_values(batch, path)
    values.validate(full=True)  # the file may claim any offsets
    _, offsets, data = values.buffers()
    present = values.is_valid().to_numpy(zero_copy_only=False)
    if not len(values) or not data:
        nothing = np.zeros(len(values), np.int64)
        return nothing, nothing, present
    wide = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    ends = np.frombuffer(offsets, wide)[values.offset : values.offset + len(values) + 1]
    ends = ends.astype(np.int64)
    start = data.address - body.address if ends[-1] else 0
    if not 0 <= start <= start + int(ends[-1]) <= body.size:  # unpacked by Arrow
        raise ImageRejected(COMPRESSED_TABLE)
    return start + ends[:-1], np.diff(ends), present


def _checked(body: pa.Buffer, start: int, length: int, present: bool, max_bytes: int) -> bytes:
    if not present:
        raise ImageRejected(NO_BYTES)
    if not length:
        raise ImageRejected(EMPTY_FILE)
    if length > max_bytes:
        raise ImageRejected(FILE_TOO_LARGE)
    return bytes(body.slice(start, length))
