"""Image records: a table with one row per image of a corpus, accepted or rejected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors.exceptions import ArtifactError
from storage.files.filesystems import display, translated_errors

RECORD_SCHEMA = pa.schema(
    [
        # sha256 of the file's (or tar member's) bytes in hex; '' where they could not be read.
        pa.field("image_id", pa.string(), nullable=False),
        # Where the bytes are; for a tar member, the tar's URI.
        pa.field("uri", pa.string(), nullable=False),
        # The tar member's name; '' for a file of its own.
        pa.field("member", pa.string(), nullable=False),
        # First byte in the tar; -1 for a whole file.
        pa.field("offset", pa.int64(), nullable=False),
        # Number of bytes; -1 where not known.
        pa.field("length", pa.int64(), nullable=False),
        # Pixels of the upright image; 0 where it was not decoded.
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        # Such as JPEG; '' where it was not decoded.
        pa.field("format", pa.string(), nullable=False),
        # The conversion to 8-bit RGB, such as `cmyk`; '' for none.
        pa.field("conversion", pa.string(), nullable=False),
        # One of REJECT_REASONS; '' for an accepted image.
        pa.field("reject_reason", pa.string(), nullable=False),
    ]
)

# Part of the format: the same rows give the same bytes only with the same row groups.
_ROWS_PER_GROUP = 65_536


def write_parquet(table: pa.Table, file: str | Path | IO[bytes]) -> None:
    """Writes any table so that equal rows give equal bytes (with one version of pyarrow).

    Chunks in memory and the schema's metadata (such as pandas') leave no trace in the file.

    Raises:
        StorageError: the file can't be written.
    """
    # Page boundaries follow the chunks, which depend on how the table was put together.
    plain = table.replace_schema_metadata(None).combine_chunks()
    with translated_errors("write", _name(file)):
        pq.write_table(
            plain,
            file,
            compression="zstd",
            compression_level=3,
            row_group_size=_ROWS_PER_GROUP,
            store_schema=True,
        )


def read_parquet(file: str | Path | IO[bytes], columns: Sequence[str] | None = None) -> pa.Table:
    """The table that `write_parquet` wrote, or only the named columns of it.

    Raises:
        StorageError: the file can't be read.
        ArtifactError: it is not a whole Parquet file.
    """
    with translated_errors("read", _name(file)):
        try:
            # By way of ParquetFile: read_table takes folder names such as `key=value` for columns.
            return pq.ParquetFile(file).read(columns=columns)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise ArtifactError(
                f"The table {display(_name(file))} is damaged ({why}); "
                "delete it or rebuild it with --repair."
            ) from error


def _name(file: str | Path | IO[bytes]) -> str:
    return str(file) if isinstance(file, str | Path) else str(getattr(file, "name", "a table"))
