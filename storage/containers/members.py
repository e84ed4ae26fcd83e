"""What containers hold: members, whose bytes are read one at a time and once more by their place.

A member's place is two numbers, `offset` and `length`, whose meaning is its container's:

- in an Arrow file (as in a tar), `length` bytes from byte `offset` of the file on;
- in a zip, the member whose header is at byte `offset`, and which has `length` bytes when inflated;
- in a Parquet file, the image of row `offset`, which has `length` bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One member of a container; nothing of it has been read.

    Attributes:
        name: its path in the container, or `row=3`.
        offset, length: its place, as above; `length` is as the container states it.
        read: reads the bytes, and raises ImageRejected where there are none to be had.
        is_link: whether it is a symbolic link.
    """

    name: str
    offset: int
    length: int
    read: Callable[[], bytes]
    is_link: bool = False
