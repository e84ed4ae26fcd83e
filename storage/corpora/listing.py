"""Listings of corpora: Arrow tables that stay small at millions of files.

The readers of folders, tables and COCO files write into a `ListingBuilder`: rows go into Arrow
chunks as they come, so that no Python object is kept per file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors.exceptions import StorageError
from storage.errors.reject_reasons import (
    MISSING,
    NOT_A_FILE,
    OUTSIDE_ROOTS,
    SYMLINK_LOOP,
    UNREADABLE,
)
from storage.files.file_kinds import extension_of, is_image, is_tar
from storage.files.filesystems import MissingFileError, is_outside, local_path, translated_errors

IMAGE: Final = "image"
TAR: Final = "tar"
ZIP: Final = "zip"
ARROW: Final = "arrow"
PARQUET: Final = "parquet"
CONTAINERS: Final = frozenset({TAR, ZIP, ARROW, PARQUET})
"""Kinds of entries that hold any number of images."""
EXCLUDED: Final = "excluded"
"""The key in `Listing.ignored` of files that patterns leave out."""
UNKNOWN: Final = "unknown"
"""Kind of a file without extension, until its first bytes have been read."""

ENTRY_SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),  # bytes; -1 where not known
        pa.field("version", pa.string(), nullable=False),  # mtime in ns, or ETag; '' unknown
        pa.field("kind", pa.string(), nullable=False),  # IMAGE, or one of CONTAINERS
    ]
)
REJECT_SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # one of REJECT_REASONS
    ]
)

_ROWS_PER_CHUNK = 65_536
_MAX_IGNORED_EXTENSIONS = 200

# File systems' names for the value that changes with a file's content, best first.
# fmt: off
_VERSION_KEYS = (
    "ETag", "etag", "e_tag", "checksum", "md5Hash", "content_md5", "CRC", "generation", "mtime",
    "LastModified", "last_modified", "modified", "updated", "created",
)
# fmt: on


@dataclass(frozen=True, eq=False)
class Listing:
    """The content of one source.

    Attributes:
        entries: table of `ENTRY_SCHEMA`, sorted by uri (by bytes), each uri once.
        rejects: table of `REJECT_SCHEMA`, sorted by uri, what could not be listed and why.
        ignored: number of files passed over as neither image nor tar, by extension; '' stands
            for no extension and no image's first bytes, `other` for odd and rare ones; `hidden
            file` and `hidden folder` for those that `is_hidden` leaves out, a folder counting
            once; `label map` for label maps beside their photographs; `excluded` for those that
            a `Selection` leaves out.
    """

    entries: pa.Table
    rejects: pa.Table
    ignored: dict[str, int]


class ListingBuilder:
    """Collects a listing; memory grows by the bytes of the URIs and little else."""

    def __init__(self, takes: Callable[[str, str], bool] | None = None) -> None:
        """`takes`: whether a file of a name and a kind is taken; by default, all are."""
        self._takes = takes
        self._entries = _ChunkedRows(ENTRY_SCHEMA)
        self._rejects = _ChunkedRows(REJECT_SCHEMA)
        self._ignored: Counter[str] = Counter()

    def add(self, uri: str, size: int, version: str, kind: str) -> None:
        """One image or container; `size` in bytes, -1 where not known."""
        self._entries.append((uri, size, version, kind))

    def add_entries(self, entries: pa.Table) -> None:
        """Many at once, as a table of `ENTRY_SCHEMA`."""
        self._entries.extend(entries)

    def add_listing(self, listing: Listing) -> None:
        """All of another listing."""
        self._entries.extend(listing.entries)
        self._rejects.extend(listing.rejects)
        self._ignored.update(listing.ignored)

    def selects(self, name: str, kind: str) -> bool:
        """Whether a file of this name, as its table or JSON file writes it, is to be added; else
        it is counted as excluded."""
        taken = self._takes is None or self._takes(name, kind)
        self._ignored[EXCLUDED] += not taken
        return taken

    def reject(self, uri: str, reason: str) -> None:
        """One file or folder that can't be listed."""
        self._rejects.append((uri, reason))

    def ignore(self, name: str) -> None:
        """One file that is neither an image nor a tar."""
        count_other_file(name, self._ignored)

    def ignore_hidden(self, kind: Literal["file", "folder"]) -> None:
        """One file, or one folder with all below it, that is left out by `is_hidden`."""
        self._ignored[f"hidden {kind}"] += 1

    def add_ignored(self, numbers: Mapping[str, int]) -> None:
        """Many files that are counted only, by kind."""
        self._ignored.update(numbers)

    def ignore_label_map(self) -> None:
        """One image that is the label map of a photograph, and no photograph."""
        self._ignored["label map"] += 1

    def add_local_stat(self, uri: str, kind: str, result: os.stat_result | OSError) -> None:
        """One local file by what `os.stat` (links followed) returned or raised."""
        if isinstance(result, OSError):
            self.reject(uri, _stat_reason(uri, result))
        elif not stat.S_ISREG(result.st_mode):
            self.reject(uri, NOT_A_FILE)
        else:
            self.add(uri, result.st_size, str(result.st_mtime_ns), kind)

    def add_local(self, uri: str, kind: str) -> None:
        """One local file that is named somewhere; it is stat'ed, and rejected if missing or outside
        the roots."""
        if is_outside(uri):
            self.reject(uri, OUTSIDE_ROOTS)
            return
        try:
            # os.stat and not pathlib: once per row of a table.
            self.add_local_stat(uri, kind, os.stat(local_path(uri)))  # noqa: PTH116
        except OSError as error:
            self.add_local_stat(uri, kind, error)
        except ValueError:  # a null byte in the name
            self.reject(uri, MISSING)

    def add_remote(self, uri: str, kind: str, info: Mapping[str, Any]) -> None:
        """One remote file, by fsspec's description of it."""
        size = info.get("size")
        self.add(uri, -1 if size is None else int(size), remote_version(info), kind)

    def finish(self) -> Listing:
        """The listing, sorted and with doubles removed."""
        return Listing(
            entries=_sorted_unique(self._entries.table()),
            rejects=_sorted_unique(self._rejects.table()),
            ignored=dict(sorted((+self._ignored).items())),
        )


def count_other_file(name: str, ignored: Counter[str]) -> None:
    """Count a file that is neither an image nor a tar, by its extension."""
    extension = extension_of(name)
    # Numbered files (`frame.000001`) would otherwise make a million keys.
    usual = len(extension) <= 10 and extension.isascii() and not extension.isdigit()
    known = extension in ignored or len(ignored) < _MAX_IGNORED_EXTENSIONS
    ignored[extension if usual and known else "other"] += 1


def kind_by_name(name: str) -> str | None:
    """IMAGE or TAR by the file's extension, else None."""
    if is_image(name):
        return IMAGE
    return TAR if is_tar(name) else None


def container_kind(name: str) -> str | None:
    """The kind of container by the file's extension, else None; a `.parquet` may hold no image."""
    if is_tar(name):
        return TAR
    return {"zip": ZIP, "arrow": ARROW, "parquet": PARQUET}.get(extension_of(name))


def remote_version(info: Mapping[str, Any]) -> str:
    """The string that changes with the file's content, from fsspec's details; '' for none."""
    for key in _VERSION_KEYS:
        value = info.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, bytes | bytearray):
            return bytes(value).hex()
        if isinstance(value, date):  # and datetime, its subclass
            return value.isoformat()
        return str(value).strip('"')
    return ""


class _ChunkedRows:
    """Rows of a schema, turned into an Arrow chunk whenever enough have come together."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns: list[list[Any]] = [[] for _ in schema]
        self._chunks: list[pa.Table] = []

    def append(self, row: tuple[Any, ...]) -> None:
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        if len(self._columns[0]) >= _ROWS_PER_CHUNK:
            self._flush()

    def extend(self, rows: pa.Table) -> None:
        self._flush()
        self._chunks.append(rows.cast(self._schema))

    def table(self) -> pa.Table:
        self._flush()
        return pa.concat_tables([self._schema.empty_table(), *self._chunks])

    def _flush(self) -> None:
        if self._columns[0]:
            self._chunks.append(pa.table(self._columns, schema=self._schema))
            self._columns = [[] for _ in self._schema]


def _sorted_unique(table: pa.Table) -> pa.Table:
    """Rows sorted by all columns, the first row of each uri kept.

    Sorting by all columns makes the row that is kept independent of the order of listing.
    """
    if not table.num_rows:
        return table
    # Rows are gathered into one array per column, which for `string` ends at 2 GiB.
    wide = table.cast(
        pa.schema(
            [f.with_type(pa.large_string()) if f.type == pa.string() else f for f in table.schema]
        )
    )
    order = pc.sort_indices(wide, sort_keys=[(name, "ascending") for name in table.column_names])
    wide = wide.take(order).combine_chunks()
    uri = wide["uri"]
    changes = pc.not_equal(uri.slice(1), uri.slice(0, len(uri) - 1))
    wide = wide.filter(pa.concat_arrays([pa.array([True]), *changes.chunks]))
    starts = range(0, wide.num_rows, _ROWS_PER_CHUNK)
    return pa.concat_tables(
        wide.slice(start, _ROWS_PER_CHUNK).cast(table.schema) for start in starts
    )


def _stat_reason(uri: str, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return SYMLINK_LOOP
    try:
        with translated_errors("look for", uri):
            raise error
    except MissingFileError:
        return MISSING
    except StorageError:
        return UNREADABLE
