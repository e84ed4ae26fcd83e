"""What is said of decisions about labels, in the card and in the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_KINDS: Final = {
    "accepted": "accepted",
    "rejected": "rejected",
    "renamed": "given another category",
    "redrawn": "given another mask",
    "several": "found to be of several objects",
    "other_category": "left out for a category that the vocabulary lacks",
}


def decided_sentence(decided: Mapping[str, Any]) -> str:
    """What became of labels that people looked at; without its full stop, as all here.

    Args:
        decided: `decided` of the counts of `plan_shards`.
    """
    kinds = [f"{decided[name]:,} {words}" for name, words in _KINDS.items() if decided[name]]
    said = f"{decided['labels']:,} labels were looked at"
    return f"{said}: {', '.join(kinds)}" if kinds else said


def unused_sentences(decided: Mapping[str, Any]) -> list[str]:
    """Decisions that change nothing, and why."""
    said = []
    if decided["stale"]:
        said.append(
            f"{decided['stale']:,} about labels that the build does not have (another category or "
            "mask)"
        )
    if decided["wrong_size"]:
        said.append(
            f"masks: {decided['wrong_size']:,} of another size than their image, left alone"
        )
    return said


def precision_lines(
    decided: Mapping[str, Any], categories: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The estimated precision of each category of which a random sample was looked at.

    Args:
        decided: as of `decided_sentence`.
        categories: rows with category_id and name.
    """
    names = {row["category_id"]: row["name"] for row in categories}
    return [f"{names[number]}: {words}" for number, words in precision_words(decided).items()]


def precision_words(decided: Mapping[str, Any]) -> dict[int, str]:
    """As `precision_lines`, by category_id and without the names."""
    return {
        row["category_id"]: f"{100 * row['share']:.0f} % ({100 * row['low']:.0f} to "
        f"{100 * row['high']:.0f} %) of {row['looked_at']:,} looked at"
        for row in decided["precision"]
    }
