"""Helpers for the wording of messages: shortened lists, counts by kind."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


def listed(items: Sequence[str], at_most: int, separator: str = ", ") -> str:
    """The first items, and how many more there are: `cat, dog and 78 more`."""
    more = f" and {len(items) - at_most:,} more" if len(items) > at_most else ""
    return separator.join(items[:at_most]) + more


def counted_kinds(numbers: Mapping[str, int]) -> str:
    """How many files of each kind, as `Listing.ignored` counts them: `2 label map, 1,204 txt`."""
    kinds = sorted(numbers.items())
    return ", ".join(f"{number:,} {kind or 'without extension'}" for kind, number in kinds)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean WORD?` for the known word that is closest; empty where none is close.

    Args:
        word: that was given.
        known: words that can be given.
        cutoff: least similarity, 0..1, as `difflib.get_close_matches` has it.
    """
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]}?" if found else ""
