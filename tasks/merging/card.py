"""The card of a merged data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage.shards.card import METADATA, cell
from storage.shards.writing import ignore_label
from storage.vocabularies.category import Category
from tasks.merging.merged_labels import CONFLICT, TWICE, UNKNOWN

_WHY = {
    TWICE: "labels of an object that a better label of the same category has already",
    CONFLICT: "labels of an object that a better label calls otherwise",
    UNKNOWN: "labels of categories that the vocabulary lacks",
}


def card(
    name: str, keys: Sequence[str], vocabulary: Sequence[Category], counts: Mapping[str, Any]
) -> str:
    """Markdown, with the metadata that the Hugging Face hub reads.

    Args:
        name: of the data set; keys: of those that it is merged from.
        vocabulary: its categories.
        counts: of the artifact.
    """
    rows = "\n".join(
        f"| {number} | {cell(category.name)} | {counts['categories'].get(str(number), 0)} |"
        for number, category in enumerate(vocabulary, start=1)
    )
    sources = "\n".join(f"- {number}: `assemble_dataset/{key}`" for number, key in enumerate(keys))
    left = "\n".join(f"- {n:,} {_WHY[reason]}" for reason, n in counts["left_out"].items())
    return f"""{METADATA}
# {name}

{counts["samples"]:,} images with {counts["labels"]:,} pseudo-labels for {len(vocabulary)} \
categories, merged from the data sets

{sources}

whose cards say how their labels were made. Label maps have 0 for the background and \
{ignore_label(len(vocabulary))} for pixels to ignore. `objects` in a sample's JSON lists its labels,
the best first, each with the number of the data set that it comes from.

## Labels that were not taken

{left or "None."}

## Licences

The images belong to their authors. Each sample's JSON names the file that it came from; check the
licences there before you pass images on or train on them.

## Categories

| id | name | labels |
|---|---|---|
{rows}
"""
