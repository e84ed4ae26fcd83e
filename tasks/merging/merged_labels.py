"""The labels of one image from several data sets, made one list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pycocotools import mask as coco_mask

from storage.vocabularies.category import Category

SAME_FROM: Final = 0.5
"""IoU from which two masks are of one object."""

TWICE, CONFLICT, UNKNOWN = "labelled_twice", "conflict", "unknown_category"
"""What becomes of labels that are not taken: a better one of the same object has the same category,
or another; the vocabulary has no such category."""

# Of an object in a sample's JSON; a sample with one object has these beside its image's facts.
_MASK_FACTS: Final = (
    "mask", "mask_id", "objectness", "area", "border_contact", "components", "refiner_agreement",
    "quality", "category_probability", "estimated_iou", "name_probability",
)  # fmt: skip


@dataclass(frozen=True)
class Label:
    """A label of an image.

    Attributes:
        category_id: in the merged data set.
        facts: its object, as the JSON has it, with the mask as COCO run lengths.
        source: number of the data set that it comes from.
    """

    category_id: int
    facts: Mapping[str, Any]
    source: int

    @property
    def quality(self) -> float | None:
        """0..1; None where the data set's labels were not judged."""
        found = self.facts.get("quality")
        return None if found is None else float(found)


def categories_by_name(vocabulary: Sequence[Category]) -> dict[str, int]:
    """category_id, from 1, by the names and synonyms of a vocabulary, in lower case; a name comes
    before another category's synonym."""
    found: dict[str, int] = {}
    for number, category in enumerate(vocabulary, start=1):
        found.setdefault(category.name.casefold(), number)
    for number, category in enumerate(vocabulary, start=1):
        for synonym in category.synonyms:
            found.setdefault(synonym.casefold(), number)
    return found


def renumbered(categories: Mapping[int, Category], by_name: Mapping[str, int]) -> dict[int, int]:
    """The merged data set's category_ids by those of a data set; those that the vocabulary lacks
    are left out. A category is found by its name, or else by one of its synonyms."""
    found = {}
    for number, category in categories.items():
        names = (name.casefold() for name in (category.name, *category.synonyms))
        match = next((by_name[name] for name in names if name in by_name), None)
        if match is not None:
            found[number] = match
    return found


def labels_of_sample(
    facts: Mapping[str, Any], numbers: Mapping[int, int], source: int
) -> tuple[list[Label], int]:
    """The labels of a sample's JSON, and how many have no category in the vocabulary.

    Args:
        facts: the JSON.
        numbers: of `renumbered`.
        source: number of the data set.
    """
    if "objects" in facts:
        objects = [dict(each) for each in facts["objects"] if each["category_id"]]
    else:
        objects = [_only_object(facts)]
    labels = [
        Label(numbers[each["category_id"]], each, source)
        for each in objects
        if each["category_id"] in numbers
    ]
    return labels, len(objects) - len(labels)


def _only_object(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a sample with one, as the list of several would have it."""
    label = facts["label"]
    judged: Mapping[str, Any] = next(
        (one for one in facts["categories"] if one["category_id"] == label), {}
    )
    known = {name: facts[name] for name in _MASK_FACTS if name in facts}
    known |= {name: judged[name] for name in _MASK_FACTS if name in judged}
    return {"category_id": label, **known}


def merged(labels: Sequence[Label]) -> tuple[list[Label], Counter[str]]:
    """One label an object, the best first; and what became of the others.

    The better of two is the one of higher quality if all were judged, else the one of the earlier
    data set.
    """
    judged = all(label.quality is not None for label in labels)
    order = sorted(
        range(len(labels)),
        key=lambda at: (-(labels[at].quality or 0) if judged else 0, labels[at].source, at),
    )
    taken: list[Label] = []
    left_out: Counter[str] = Counter()
    for at in order:
        label = labels[at]
        rival = next((other for other in taken if _iou(label, other) >= SAME_FROM), None)
        if rival is None:
            taken.append(label)
        else:
            left_out[TWICE if rival.category_id == label.category_id else CONFLICT] += 1
    return taken, left_out


def _iou(a: Label, b: Label) -> float:
    return float(coco_mask.iou([a.facts["mask"]], [b.facts["mask"]], [0])[0, 0])
