"""Nearly valid files and values, as from mistakes, broken disks and attackers.

`harmless` checks the property of all code that reads users' input: it gives a result, or an error
of one sentence for users, and never fails in another way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from storage.errors.exceptions import ImageRejected, ZutisError


def few(examples: int) -> Any:
    """Settings of a test: the same examples each time, without a database of failures.

    The environment variable ZUTIS_FUZZ=20 gives twenty times as many, chosen at random.
    """
    factor = int(os.environ.get("ZUTIS_FUZZ", "0"))
    return settings(
        max_examples=examples * max(factor, 1), derandomize=not factor, database=None,
        deadline=None, suppress_health_check=tuple(HealthCheck),
    )  # fmt: skip


def harmless(call: Callable[[], Any]) -> Any:
    """The result of the call, or None if it raised an error for users.

    Raises:
        AssertionError: the error is not one line, or can't be written to a terminal.
        Exception: any other error, which fails the test.
    """
    try:
        return call()
    except ImageRejected as error:
        refused = error.reason
    except ZutisError as error:
        refused = str(error)
    assert refused.strip()
    assert len(refused.splitlines()) == 1, refused
    refused.encode("utf-8")
    return None


# --- values -------------------------------------------------------------------------------------


class Raw(str):
    """A text that is written to JSON or YAML without quotes, such as a number of 5,000 digits."""

    __slots__ = ()


ODD_NUMBERS = [
    0, -1, 1, 2, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64,
    -(2**31), -(2**63), -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308, -1e308,
    float("inf"), float("-inf"), float("nan"), True, False,
]  # fmt: skip
ODD_TEXTS = [
    "", " ", "\0", "a\0b", "\ud800", "a\udce9b", "\udfff/x.jpg", "\n", "a\r\nb", "\x1b[31m",
    "../..", "/", "//", "~", "~nobody-of-that-name/x", "a" * 300, "a/" * 3_000, "{", "{}", "{0}",
    "{a[", "%s", "%", "*", "[", "\u202e", "1e999", "nan", "null", "-", "--", "9" * 5_000,
    "\u00b2", "\u0663", "http://[", "http://a:b:c/", "s3://", "zip://a::b", "file:///%00",
    "file:///%ff", "://", "memory://\0", "C:\\a", "a" * 70_000,
]  # fmt: skip
ODD_RAW = [Raw("9" * 5_000), Raw("-" + "9" * 5_000), Raw("1e999"), Raw("-0"), Raw("1e5")]

numbers = st.sampled_from(ODD_NUMBERS) | st.integers() | st.floats()
texts = st.sampled_from(ODD_TEXTS) | st.text(st.characters(), max_size=8)
leaves = st.none() | st.booleans() | numbers | texts | st.sampled_from(ODD_RAW)
odd_values = leaves | st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values in a document, that of the document itself first."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += places(inner, (*path, number))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any, how: str) -> Any:
    """The document with one place replaced, removed, renamed to `new` or doubled."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    here, rest = path[0], path[1:]
    if rest or how == "replace":
        copy[here] = replaced(copy[here], rest, new, how)
    elif how == "remove" or (how == "rename" and not isinstance(new, str)):
        del copy[here]
    elif how == "rename" and isinstance(copy, dict):
        copy[new] = copy.pop(here)
    elif isinstance(copy, list):
        copy.insert(here, copy[here])
    return copy


@st.composite
def near(draw: st.DrawFn, document: Any) -> Any:
    """The document with one to three places changed."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(document)))
        how = draw(st.sampled_from(["replace", "replace", "remove", "rename", "double"]))
        document = replaced(document, path, draw(odd_values), how)
    return document


def as_json(document: Any) -> bytes:
    """The JSON of a document; `Raw` values are written as they are, surrogates escaped."""
    raws: list[str] = []

    def marked(value: Any) -> Any:
        if isinstance(value, Raw) or (isinstance(value, int) and abs(value) > 10**300):
            raws.append(str(value))
            return f"@raw{len(raws) - 1}@"
        if isinstance(value, dict):
            return {str(key): marked(inner) for key, inner in value.items()}
        return [marked(inner) for inner in value] if isinstance(value, list) else value

    text = json.dumps(marked(document))
    for number, raw in enumerate(raws):
        text = text.replace(f'"@raw{number}@"', raw)
    return text.encode()


def as_bytes(text: str) -> bytes:
    """A text in UTF-8; lone surrogates are encoded like other characters, which is invalid."""
    return text.encode("utf-8", "surrogatepass")


def as_lines(lines: list[str]) -> bytes:
    """Texts, one a line."""
    return as_bytes("\n".join(lines))


def near_json(document: Any) -> st.SearchStrategy[bytes]:
    """JSON files: nearly valid documents, deeply nested ones, and damaged bytes."""
    deep = st.sampled_from([b"[" * 60_000, b'{"a":' * 60_000, b"[" * 500 + b"]" * 500])
    return near(document).map(as_json) | damaged(as_json(document)) | deep


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes of which some are changed, cut out, doubled or inserted."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(changed)))
        size = draw(st.sampled_from([0, 1, 1, 2, 4, 16, len(changed)]))
        piece = draw(
            st.binary(min_size=1, max_size=8)
            | st.sampled_from([b"\0" * 16, b"\xff" * 8, b"\xed\xa0\x80", b"9" * 5_000, b"\n"])
        )
        how = draw(st.sampled_from(["write", "cut", "insert", "double"]))
        if how == "write":
            changed[start : start + len(piece)] = piece
        elif how == "cut":
            del changed[start : start + size]
        else:
            changed[start:start] = piece if how == "insert" else changed[start : start + size]
    return bytes(changed)
