"""The table of masks, whatever proposes them."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

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
