"""The column of an Arrow schema that holds images' bytes, as Hugging Face's data sets have it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import DAMAGED_TABLE
from storage.files.file_kinds import file_name

# Of plain columns of bytes; a column of `bytes` and `path` may have any name.
_BYTES_COLUMNS = frozenset(
    {"image", "img", "image_bytes", "jpg", "jpeg", "png", "webp", "picture", "photo"}
)
_NO_IMAGES = frozenset({"audio", "video", "pdf"})
_LONGEST_NAME = 1_000


def image_column(schema: pa.Schema) -> str | None:
    """The name of the column of images' bytes: the one called `image`, else the first; else None.

    A column of images is a struct with a field `bytes` (and mostly `path`), unless Hugging Face's
    description of the table says that it is no image; or plain bytes under a usual name.
    """
    described = _described_features(schema)
    found = [field.name for field in schema if _holds_images(field, described)]
    found = [name for name in found if schema.names.count(name) == 1]
    return "image" if "image" in found else next(iter(found), None)


def bytes_field(schema: pa.Schema, column: str) -> str:
    """The path, in Arrow's dots, of the bytes of a column of images."""
    return f"{column}.bytes" if pa.types.is_struct(schema.field(column).type) else column


def path_field(schema: pa.Schema, column: str) -> str | None:
    """The path of the images' names; None where they have none."""
    kind = schema.field(column).type
    has_path = pa.types.is_struct(kind) and any(
        field.name == "path" and _is_text(field.type) for field in kind
    )
    return f"{column}.path" if has_path else None


def member_name(path: str | None, row: int) -> str:
    """The name of a row's image: its path, unless that leads elsewhere, or the row's number."""
    if not path:
        return f"row={row}"
    if path.startswith("/") or "\\" in path or ".." in path.split("/"):
        path = file_name(path.replace("\\", "/"))
    return path[:_LONGEST_NAME] or f"row={row}"


@contextmanager
def rejected_where_damaged() -> Iterator[None]:
    """Turns what Arrow raises on bytes that it can't read into `damaged_table`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # of the disk; Arrow's own have none
            raise
        raise ImageRejected(DAMAGED_TABLE, str(error)) from error
    except (pa.ArrowException, ValueError, ArithmeticError, LookupError, EOFError) as error:
        raise ImageRejected(DAMAGED_TABLE, str(error)) from error


def _holds_images(field: pa.Field, described: dict[str, Any]) -> bool:
    if pa.types.is_struct(field.type):
        if not any(inner.name == "bytes" and _is_bytes(inner.type) for inner in field.type):
            return False
        feature = described.get(field.name)
        if isinstance(feature, dict) and "_type" in feature:
            return bool(feature["_type"] == "Image")
        return field.name.casefold() not in _NO_IMAGES
    return _is_bytes(field.type) and field.name.casefold() in _BYTES_COLUMNS


def _described_features(schema: pa.Schema) -> dict[str, Any]:
    """Hugging Face's types of the columns, where the schema has them."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def field_values(batch: pa.RecordBatch, path: str) -> pa.Array:
    """The values at a path such as `image.bytes`; null where the struct around them is."""
    *outer, inner = _steps(batch.schema, path)
    array = batch.column(outer[0] if outer else inner)
    if not outer:
        return array
    names: Sequence[str] = [field.name for field in array.type]
    return array.flatten()[names.index(inner)]


def _steps(schema: pa.Schema, path: str) -> list[str]:
    if path in schema.names:
        return [path]
    column, _, field = path.rpartition(".")
    return [column, field]
