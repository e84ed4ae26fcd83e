"""The table of masks, whatever proposes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import write_parquet
from tasks.stage.contract import PartOfPlan
from tasks.stage.layout import MASKS

STAGE: Final = "make_masks"
"""Of all artifacts with masks."""

BLANK_MASK = "blank_mask"
FULL_MASK = "full_mask"
TOO_ELONGATED = "too_elongated"
NO_GIVEN_MASK = "no_given_mask"
OTHER_SIZE = "mask_of_other_size"
BAD_MASK = "unreadable_mask"
AMBIGUOUS_NAME = "ambiguous_name"

# Masks of full size take time and memory, and an image with more objects is one of a crowd.
MOST_OBJECTS = 24

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("counts", pa.string()),
        ("objectness", pa.float32()),
        ("area", pa.float32()),
        ("border_contact", pa.float32()),
        ("components", pa.int32()),
        ("refiner_agreement", pa.float32()),
        ("reject_reason", pa.string()),
    ]
)
SEVERAL_SCHEMA = SCHEMA.append(pa.field("object", pa.int32())).append(
    pa.field("part_of", pa.int32())
)
"""With several objects an image: `object` numbers an image's rows from 0, from the most object-like
on; `part_of` is the number of the object that a part belongs to, -1 of an object apart."""


def mask_row(image_id: str, **values: Any) -> dict[str, Any]:
    """A row of the table; what is not given is 0 or empty."""
    empty = {"height": 0, "width": 0, "counts": "", "objectness": 0.0, "area": 0.0,
             "border_contact": 0.0, "components": 0, "refiner_agreement": 0.0,
             "reject_reason": ""}  # fmt: skip
    return {"image_id": image_id, **empty, **values}


def publish_masks(
    ref: ArtifactRef,
    recipe: Recipe,
    inputs: PartOfPlan,
    rows: Sequence[dict[str, Any]],
    *,
    images: int,
    objects: Literal["one", "many"],
    notes: Mapping[str, Any],
    store: ArtifactStore,
) -> Artifact:
    """Publish `masks.parquet` of one part of a plan.

    Args:
        ref, recipe: of the artifact.
        inputs: the part.
        rows: of `mask_row`, in their order.
        images: number of images in the part.
        objects: whether an image has one mask or a mask of each object.
        notes: of the manifest, beside the part's number.
    """
    reasons = Counter(row["reject_reason"] for row in rows)
    usable = reasons.pop("", 0)
    schema = SCHEMA if objects == "one" else SEVERAL_SCHEMA
    with store.attempt(ref) as attempt:
        with attempt.create(MASKS) as file:
            write_parquet(pa.Table.from_pylist(rows, schema), file)
        return store.publish(
            attempt,
            recipe,
            inputs={"plan": inputs.plan.key},
            counts={"images": images, "masks": usable, "rejects": dict(sorted(reasons.items()))},
            notes={"part": inputs.part, **notes},
        )
