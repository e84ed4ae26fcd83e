"""Labels that people gave another category or another mask, or marked, in the plan of the shards.

What is decided about an image stands in its own row of the plan, in a column that images without
decisions leave empty. Shards therefore change only where a decision changes one of their samples.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Protocol

import pyarrow as pa

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.masks import run_length_pixels
from storage.images.records import read_parquet
from tasks.packing.object_labels import QUALITY
from tasks.stage.layout import DECIDED

DECISION: Final = pa.struct(
    [
        ("category_id", pa.int32()),
        ("was", pa.string()),
        ("mask_id", pa.string()),
        ("to_mask_id", pa.string()),
        ("counts", pa.string()),
        ("several", pa.bool_()),
    ]
)
"""`was` is the category that the label had, `mask_id` its mask, of which `to_mask_id` and `counts`
take the place: each empty where it stays. `several`: the mask is of several objects."""

_Rows = list[dict[str, Any]]
_UNKNOWN: Final = dict.fromkeys(("rank", "score", *QUALITY, "name_probability"))


class NamedCategory(Protocol):
    """A category of the vocabulary."""

    @property
    def name(self) -> str: ...

    @property
    def external_id(self) -> str: ...


def follow_decisions(
    labels: MutableMapping[str, _Rows],
    decided: ArtifactRef,
    categories: Mapping[int, NamedCategory],
    store: ArtifactStore,
) -> dict[str, _Rows]:
    """Change labels, or objects with their labels, as people decided.

    What was known of the label that the build made (rank, score, quality) is not known of another
    one and becomes empty. Of two labels of an image's one mask that become one, the first stays.

    Args:
        labels: by image_id, in place: dicts with `category_id`, and of objects `mask_id`.
        decided: of `import_decisions`.
        categories: of the vocabulary, by category_id.

    Returns:
        By image_id what is to be told of it (`DECISION`), without images that have nothing.
    """
    with store.get(decided).open(DECIDED) as file:
        rows = read_parquet(file).to_pylist()
    found: dict[str, _Rows] = {}
    for row in rows:
        if not row["reason"] and (row["to_category_id"] or row["to_mask_id"] or row["several"]):
            found.setdefault(row["image_id"], []).append(row)
    told: dict[str, _Rows] = {}
    for image_id, of_image in found.items():
        for row in of_image:
            label = _label_of(labels.get(image_id, ()), row)
            if label is not None:
                told.setdefault(image_id, []).append(_followed(label, row, categories))
        if image_id in labels:
            labels[image_id] = _distinct(labels[image_id])
    return told


def corrected_mask(mask: Mapping[str, Any], decisions: _Rows) -> dict[str, Any]:
    """The row of a mask, as `make_masks` has it, with the drawn mask of the first decision that has
    one; as it is where none has."""
    counts = next((each["counts"] for each in decisions if each["counts"]), "")
    return with_counts(mask, counts) if counts else dict(mask)


def with_counts(mask: Mapping[str, Any], counts: str) -> dict[str, Any]:
    """The row of a mask with other run lengths, measured anew; scores of its network are empty."""
    from zutis_model.refinement.mask_statistics import mask_statistics

    size = [mask["height"], mask["width"]]
    pixels = run_length_pixels({"size": size, "counts": counts})
    measured = mask_statistics(pixels, pixels)
    return dict(mask) | {
        "counts": counts,
        "objectness": None,
        "area": measured.area_fraction,
        "border_contact": measured.border_contact,
        "components": measured.components,
        "refiner_agreement": None,
    }


def described(decision: Mapping[str, Any]) -> dict[str, Any]:
    """A decision as a sample's JSON has it."""
    said: dict[str, Any] = {"category_id": decision["category_id"]}
    if decision["was"]:
        said["was"] = decision["was"]
    if decision["counts"]:
        said["first_mask"] = decision["mask_id"]
    if decision["several"]:
        said["several"] = True
    return said


def _label_of(labels: Any, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The label that a decision is about; None where it was left out for another reason."""
    for label in labels:
        same_mask = label.get("mask_id", row["mask_id"]) == row["mask_id"]
        if same_mask and label["category_id"] == row["category_id"]:
            found: dict[str, Any] = label
            return found
    return None


def _followed(
    label: dict[str, Any],
    row: Mapping[str, Any],
    categories: Mapping[int, NamedCategory],
) -> dict[str, Any]:
    """Change a label; returns what is to be told of it."""
    if row["to_category_id"] or row["to_mask_id"]:
        label.update({name: value for name, value in _UNKNOWN.items() if name in label})
    if number := row["to_category_id"]:
        label |= {"category_id": number, "name": categories[number].name}
        if "external_id" in label:
            label["external_id"] = categories[number].external_id
    if "mask_id" in label and row["to_mask_id"]:
        label["mask_id"] = row["to_mask_id"]
    return {
        "category_id": label["category_id"],
        "was": row["category"] if row["to_category_id"] else "",
        "mask_id": row["mask_id"],
        "to_mask_id": row["to_mask_id"],
        "counts": row["counts"],
        "several": row["several"],
    }


def _distinct(labels: _Rows) -> _Rows:
    """Without a further label of the same category; objects, which have masks of their own, all."""
    first = {(each["category_id"], each.get("mask_id")): each for each in reversed(labels)}
    return [each for each in labels if first[each["category_id"], each.get("mask_id")] is each]
