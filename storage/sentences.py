"""Pieces of the sentences that users are told."""

from __future__ import annotations

from collections.abc import Sequence


def listed(items: Sequence[str], at_most: int, separator: str = ", ") -> str:
    """The first items, and how many more there are: `cat, dog and 78 more`."""
    more = f" and {len(items) - at_most:,} more" if len(items) > at_most else ""
    return separator.join(items[:at_most]) + more
