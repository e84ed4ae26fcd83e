"""What the evidence says of a category, for people.

A row is one of `evidence.parquet` (`tasks.retrieval.estimate_evidence`), as a dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from storage.errors.sentences import listed

_COMPETING: Final = 0.5
"""Share of a category's images that are a rival's, too, from which the two compete."""

Row = Mapping[str, Any]


def thin_note(row: Row) -> str:
    """Of a category with too little evidence: how little, its best images and its rivals."""
    count = f"about {row['images']:,} images" if row["images"] else "none that stands out"
    note = f"{row['category']}: {count}, the best {_names(row['best'])}"
    rivals = [rival["category"] for rival in row["rivals"]]
    return f"{note}; rivals {' and '.join(rivals)}" if rivals else note


def senses_note(row: Row) -> str:
    """Of a category whose images show two things: an image of each; empty for others."""
    if not row["other_sense"]:
        return ""
    first, other = row["best"][:1], row["other_sense"][:1]
    return f"{row['category']} ({_names(first)} and {_names(other)} differ)"


def competing_pairs(rows: Sequence[Row]) -> list[str]:
    """Pairs of categories of which one shares half of its images with the other or more."""
    pairs: dict[frozenset[int], str] = {}
    for row in rows:
        for rival in row["rivals"]:
            if row["images"] and rival["shared"] >= _COMPETING:
                pair = frozenset((row["category_id"], rival["category_id"]))
                named = f"{row['category']} and {rival['category']} ({rival['shared']:.0%})"
                pairs.setdefault(pair, named)
    return list(pairs.values())


def _names(images: Sequence[Row]) -> str:
    """The images' file names."""
    return listed([image["uri"].rsplit("/", 1)[-1] for image in images], len(images))
