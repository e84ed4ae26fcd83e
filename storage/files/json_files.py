"""Reading users' JSON files, with one kind of error for all faults."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

from storage.files.user_files import Limit, iter_chunks


def load_json(uri: str, limit: Limit, **hooks: Any) -> Any:
    """The values of a JSON file in UTF-8, with or without byte order mark.

    Args:
        uri: of the file, local or remote.
        limit: of its size.
        hooks: as `json.loads` takes them.

    Raises:
        ValueError: it is no JSON in UTF-8, is nested too deeply, or has numbers of thousands of
            digits.
        StorageError: it can't be read, is no file, or is larger than the limit.
    """
    content = bytearray()
    for chunk in iter_chunks(uri, limit):
        # A file full of zeros, as a broken download leaves it, need not be read to its end.
        if (zero := chunk.find(0)) >= 0:
            raise ValueError(f"byte {len(content) + zero:,} is zero, as in no text")
        content += chunk
    text = content.decode("utf-8-sig")
    del content
    return parse_json(text, **hooks)


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    """The values of a JSON text.

    Raises:
        ValueError: as `load_json`.
    """
    try:
        return json.loads(text, **hooks)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_text(value: object) -> TypeGuard[str]:
    """Whether this is a text that UTF-8 can encode: JSON can have half a pair of surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
