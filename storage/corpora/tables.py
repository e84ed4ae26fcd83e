"""Tables as corpora: Parquet, CSV and TSV files with a column of paths, read in batches."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pyarrow as pa

from storage.access.credentials import has_password
from storage.access.protocols import is_supported, protocol_of
from storage.containers.image_columns import image_column
from storage.containers.table_files import (
    column_names,
    open_table,
    table_batches,
    table_errors,
    table_schema,
    text_values,
)
from storage.corpora.columns import place_column, require_one
from storage.corpora.listing import IMAGE, TAR, ListingBuilder
from storage.corpora.lists import Row, check_list, list_rows
from storage.errors.exceptions import CorpusError
from storage.errors.reject_reasons import (
    COMPRESSED_TAR,
    CREDENTIALS_IN_URI,
    NO_URI,
    OUTSIDE_ROOTS,
    UNSUPPORTED_ADDRESS,
)
from storage.files.file_kinds import extension_of, is_compressed_tar, is_list, is_tar
from storage.files.filesystems import (
    display,
    is_local,
    is_outside,
    join_uri,
    local_path,
    local_uri,
    parent_uri,
    translated_errors,
)

_COLUMNS = {"uri": pa.string(), "size": pa.int64(), "etag": pa.string()}


def check_table(uri: str, column: str = "") -> None:
    """Reads the table's head.

    Args:
        uri: of the table or list.
        column: the column of images' paths, where the user names one; see `place_column`.

    Raises:
        CorpusError: it is not a table of its kind, or has no column of paths, or several.
        StorageError: it can't be read.
    """
    if is_list(uri):
        check_list(uri, column)
        return
    if holds_images(uri, column):
        return
    with open_table(uri) as file, table_errors(uri):
        place_column(uri, column_names(uri, file, _COLUMNS), column)


def holds_images(uri: str, column: str = "") -> bool:
    """Whether a table's rows hold images' bytes, which are read rather than any paths beside them.

    Args:
        uri: of the table or list; only Parquet can hold bytes.
        column: the one that the user names: bytes are read only if it is theirs.

    Raises:
        CorpusError, StorageError: as `check_table`.
    """
    if extension_of(uri) != "parquet":
        return False
    with open_table(uri) as file, table_errors(uri):
        found = image_column(table_schema(file))
    return found is not None and column in ("", found)


def list_table(uri: str, builder: ListingBuilder, column: str = "") -> None:
    """Adds every row's file: a tar by its extension, everything else as an image.

    Local files are stat'ed, and those that are missing rejected. Of other files the table's
    `size` and `etag` are taken, where it has such columns; no request is made.

    Args:
        uri: of the table or list.
        builder: takes the files.
        column: as in `check_table`.

    Raises:
        CorpusError: the table is damaged, or has no column of paths, or several.
        StorageError: it can't be read, or the package for a protocol that it names is missing.
    """
    places = Places(uri)
    for where, name, size, etag in list_rows(uri, column) if is_list(uri) else _rows(uri, column):
        if name and has_password(name):
            builder.reject(f"{uri}#{where}", CREDENTIALS_IN_URI)
        elif name and not is_supported(name):
            builder.reject(f"{uri}#{where}", UNSUPPORTED_ADDRESS)
        elif name:
            _add_row(name, places.uri_of(name), size, etag, builder)
        else:
            builder.reject(f"{uri}#{where}", NO_URI)


def _rows(uri: str, column: str) -> Iterator[Row]:
    row = 0
    for batch in _batches(uri, column):
        columns = [text_values(batch.column(name)) for name in _COLUMNS]
        for name, size, etag in zip(*columns, strict=True):
            yield f"row={row}", name, size, etag
            row += 1


def _add_row(
    name: str, uri: str, size: int | None, etag: str | None, builder: ListingBuilder
) -> None:
    kind = TAR if is_tar(uri) else IMAGE
    if not builder.selects(name, kind):
        return
    if is_compressed_tar(uri):
        builder.reject(uri, COMPRESSED_TAR)
    elif is_outside(uri):
        builder.reject(uri, OUTSIDE_ROOTS)
    elif is_local(uri):
        builder.add_local(uri, kind)
    else:
        builder.add(uri, -1 if size is None or size < 0 else size, etag or "", kind)


class Places:
    """URIs of the places that a table names, whose relative paths start in its folder."""

    def __init__(self, table_uri: str) -> None:
        self._table = table_uri
        self._folder = parent_uri(table_uri)
        self._protocols: set[str] = set()

    def uri_of(self, name: str) -> str:
        """The URI of a path or address.

        Raises:
            CorpusError: the package for the address's protocol is missing.
        """
        if name.startswith("/") or name[:7].lower() == "file://":
            return local_uri(local_path(name))
        if "://" not in name:
            return join_uri(self._folder, name)
        self._check_protocol(name)
        return name

    def _check_protocol(self, uri: str) -> None:
        # A protocol whose package is missing is found here, and not after hours of reading.
        protocol = protocol_of(uri)
        if protocol in self._protocols:
            return
        with translated_errors("read", uri):
            try:
                fsspec.get_filesystem_class(protocol)
            except ValueError as error:
                raise CorpusError(
                    f"The address {display(uri)} in {display(self._table)} begins with "
                    f"`{protocol}://`, which no installed package can read; correct the address or "
                    "install the package."
                ) from error
        self._protocols.add(protocol)


def _batches(uri: str, column: str) -> Iterator[pa.RecordBatch]:
    """Batches with exactly the columns `_COLUMNS`; those that the table lacks are null.

    The column of paths is called `uri` in them, also where the table has another name for it.
    """
    with open_table(uri) as file, table_errors(uri):
        names = column_names(uri, file, _COLUMNS)
        own_names = {name: name for name in _COLUMNS} | {"uri": place_column(uri, names, column)}
        for name in own_names.values():
            require_one(uri, names, name)
        file.seek(0)
        present = [name for name in own_names.values() if name in names]
        for batch in table_batches(uri, file, present, _COLUMNS):
            rows = {
                name: batch.column(own_names[name]).cast(kind) if own_names[name] in present
                else pa.nulls(batch.num_rows, kind)
                for name, kind in _COLUMNS.items()
            }  # fmt: skip
            yield pa.RecordBatch.from_pydict(rows)
