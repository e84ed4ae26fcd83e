"""Helpers for the wording of messages: shortened lists, counts by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def listed(items: Sequence[str], at_most: int, separator: str = ", ") -> str:
    """The first items, and how many more there are: `cat, dog and 78 more`."""
    more = f" and {len(items) - at_most:,} more" if len(items) > at_most else ""
    return separator.join(items[:at_most]) + more


def counted_kinds(numbers: Mapping[str, int]) -> str:
    """How many files of each kind, as `Listing.ignored` counts them: `2 label map, 1,204 txt`."""
    kinds = sorted(numbers.items())
    return ", ".join(f"{number:,} {kind or 'without extension'}" for kind, number in kinds)
