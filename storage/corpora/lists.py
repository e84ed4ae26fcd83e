"""Lists as corpora: `.txt` files of paths, and `.jsonl` files of objects with paths."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from storage.corpora.columns import place_column
from storage.errors.exceptions import CorpusError
from storage.files.file_kinds import extension_of
from storage.files.filesystems import display, open_binary, translated_errors
from storage.files.json_files import is_text, parse_json

Row = tuple[str, str | None, int | None, str | None]
"""Position in the file (`line=3`); an image's path, size in bytes and ETag, None where unknown."""

_LONGEST_LINE = 2**20  # characters; a longer line is no list's


def check_list(uri: str, column: str = "") -> None:
    """Reads the list's first row.

    Raises:
        CorpusError: as `list_rows`.
        StorageError: it can't be read.
    """
    next(list_rows(uri, column), None)


def list_rows(uri: str, column: str = "") -> Iterator[Row]:
    """The rows of a `.txt` or `.jsonl` list, in order.

    A text has one path or address a line; empty lines and those that begin with `#` are skipped,
    as in vocabularies. In JSON lines, the keys of the first object decide which one has the paths,
    and other objects may lack it.

    Args:
        uri: of the list.
        column: the key in the JSON objects, where the user names one; see `place_column`.

    Raises:
        CorpusError: it is no text, or a line of it is no JSON object; or as `place_column`.
        StorageError: it can't be read.
    """
    lines = numbered_lines(uri)
    if extension_of(uri) == "txt":
        for number, line in lines:
            if not line.startswith("#"):
                yield f"line={number}", line.removeprefix("./"), None, None
        return
    name = ""
    for number, line in lines:
        row = json_object(uri, number, line)
        name = name or place_column(uri, list(row), column)
        yield (
            f"line={number}",
            _place(row.get(name)),
            _size(row.get("size")),
            _etag(row.get("etag")),
        )


def numbered_lines(uri: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not empty.

    Raises:
        CorpusError: the file is no text.
        StorageError: it can't be read.
    """
    with open_binary(uri) as file, _text_errors(uri):
        text = io.TextIOWrapper(file, "utf-8-sig")
        number = 0
        while line := text.readline(_LONGEST_LINE):
            number += 1
            if "\0" in line or (len(line) == _LONGEST_LINE and not line.endswith("\n")):
                raise CorpusError(_no_text(uri, f"see line {number}"))
            if line := line.strip():
                yield number, line


def json_object(uri: str, number: int, line: str) -> dict[str, Any]:
    """The object that a line of a `.jsonl` list holds.

    Raises:
        CorpusError: it holds none.
    """
    try:
        row = parse_json(line)
    except ValueError as error:
        why = str(error)
        if isinstance(error, json.JSONDecodeError):  # whose message always has line 1
            why = f"{error.msg}, character {error.pos + 1}"
        raise CorpusError(
            f"Line {number} of {display(uri)} is not valid JSON ({why}); correct it, or write "
            "the file again."
        ) from error
    if not isinstance(row, dict):
        raise CorpusError(
            f"Line {number} of {display(uri)} is no JSON object; each line has to be one, such as "
            '{"uri": "a.jpg"}.'
        )
    return row


def _place(value: object) -> str | None:
    return value.removeprefix("./") if is_text(value) else None


def _etag(value: object) -> str | None:
    return value if is_text(value) else None


def _size(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value < 1 << 63:
        return value
    return None


@contextmanager
def _text_errors(uri: str) -> Iterator[None]:
    try:
        with translated_errors("read", uri):
            yield
    except UnicodeDecodeError as error:
        raise CorpusError(_no_text(uri, str(error))) from error


def _no_text(uri: str, why: str) -> str:
    return (
        f"The list {display(uri)} can't be read as UTF-8 text ({why}); name a text file with one "
        f"{'place' if extension_of(uri) == 'txt' else 'JSON object'} a line."
    )
