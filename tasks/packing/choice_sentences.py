"""What is said of labels that were left out as leaks and near-duplicates, in the card and in the
summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.errors.sentences import counted_kinds
from storage.files.filesystems import display


def labels_sentence(chosen: Mapping[str, Any]) -> str:
    """How many labels were left out for which reason; without its full stop, as all here.

    Args:
        chosen: `chosen` of the counts of `plan_shards`.
    """
    if not chosen["left_out"]:
        return f"{chosen['labels']:,} labels; all are kept"
    return (
        f"{chosen['labels']:,} labels; {chosen['kept']:,} are kept, left out: "
        f"{counted_kinds(chosen['left_out'])}"
    )


def duplicates_sentence(chosen: Mapping[str, Any]) -> str:
    """How many groups there are; empty where none were looked for."""
    found = chosen.get("duplicates")
    if found is None:
        return ""
    among = f"among the {found['images']:,} images that were retrieved"
    said = f"none {among}"
    if found["groups"]:
        said = f"{found['groups']:,} groups {among}; each category keeps one image of a group"
    if found.get("unknown"):
        said += (
            f"; {found['unknown']:,} of the {found['named']:,} images that the list names are not "
            "in the corpus"
        )
    if found.get("unreadable"):
        said += f"; {found['unreadable']:,} images could not be compared"
    return said


def keep_out_sentences(chosen: Mapping[str, Any]) -> list[str]:
    """Of each set that is kept out, how many of the retrieved images it has."""
    return [
        f"{display(each['name'])}: {each['leaks']:,} of the images that were retrieved are, or "
        f"nearly are, among its {each['images']:,} images{_unusable(each)}"
        for each in chosen.get("keep_out", ())
    ]


def _unusable(keep_out: Mapping[str, Any]) -> str:
    return f" ({keep_out['unusable']:,} more can't be read)" if keep_out["unusable"] else ""
