"""Files of tables, Parquet, CSV and TSV, as Arrow reads them: with one thread, in batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from storage.access.roots import open_file_path
from storage.errors.exceptions import CorpusError
from storage.files.file_kinds import extension_of
from storage.files.filesystems import (
    display,
    is_local,
    local_path,
    open_binary,
    translated_errors,
)

_ROWS_PER_BATCH = 16_384


@contextmanager
def open_table(uri: str) -> Iterator[Any]:
    """The table's bytes. Arrow reads ahead in threads of its own, which end a process that ends
    before they do unless they can do without Python: a local file is Arrow's own."""
    with open_binary(uri) as file:
        if not is_local(uri):
            yield file
            return
        path = open_file_path(file.fileno(), local_path(uri))
        with pa.OSFile(os.fsencode(path)) as own:
            yield own


def table_batches(
    uri: str, file: Any, columns: list[str], types: Mapping[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    """The rows of an open table, in batches of some thousands, with the columns that are asked for.

    Args:
        types: what columns of a text file are read as; all others are texts.
    """
    if extension_of(uri) == "parquet":
        yield from pq.ParquetFile(file).iter_batches(_ROWS_PER_BATCH, columns=columns)
    else:
        yield from _open_csv(uri, file, columns, types)


def column_names(uri: str, file: Any, types: Mapping[str, pa.DataType]) -> list[str]:
    """The columns of an open table, which is then to be rewound; `types` as of `table_batches`."""
    if extension_of(uri) == "parquet":
        return list(pq.ParquetFile(file).schema_arrow.names)
    return list(_open_csv(uri, file, None, types).schema.names)


def table_schema(file: Any) -> pa.Schema:
    """The schema of an open Parquet file."""
    return pq.ParquetFile(file).schema_arrow


def _open_csv(
    uri: str, file: Any, columns: list[str] | None, types: Mapping[str, pa.DataType]
) -> Any:
    return pa_csv.open_csv(
        file,
        # One thread: batches then hold the same rows each time, and workers share the cores.
        read_options=pa_csv.ReadOptions(use_threads=False),
        parse_options=pa_csv.ParseOptions(
            delimiter="\t" if extension_of(uri) == "tsv" else ",", newlines_in_values=True
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(columns or (), pa.string()) | dict(types),
            include_columns=columns,
            # A file may be called `null` or `NA`.
            strings_can_be_null=False,
        ),
    )


@contextmanager
def table_errors(uri: str) -> Iterator[None]:
    """Turns the errors of reading a table into errors for users.

    Raises:
        CorpusError: the table is damaged.
        StorageError: it can't be read.
    """
    try:
        with translated_errors("read", uri):
            yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        kind = "Parquet" if extension_of(uri) == "parquet" else "UTF-8 text"
        line = display(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise CorpusError(
            f"The table {display(uri)} can't be read as {kind} ({line}); write it again, or "
            "name another file."
        ) from error


def text_values(column: pa.Array) -> list[Any]:
    """The column's values; None for a text that is no UTF-8, at whose bytes Arrow doesn't look."""
    try:
        values: list[Any] = column.to_pylist()
        return values
    except UnicodeDecodeError:
        return [_decoded(value) for value in column.view(pa.binary()).to_pylist()]


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None
