"""The masks of a build's images, from the artifacts that hold them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.masks import mask_id
from storage.images.records import read_parquet
from tasks.stage.layout import MASKS

_COLUMNS = ["image_id", "height", "width", "counts", "objectness", "reject_reason"]


def mask_rows(
    keys: Collection[str], image_ids: Collection[str], store: ArtifactStore
) -> dict[str, list[dict[str, Any]]]:
    """The usable masks of images, by image_id, in the order of their artifacts.

    Args:
        keys: of artifacts of `make_masks`.
        image_ids: of the images that are asked for.

    Returns:
        Rows of image_id, height, width, counts, objectness, reject_reason and mask_id, for
        `mask_pixels`.
    """
    wanted = pa.array(sorted(image_ids), pa.string())
    found: dict[str, list[dict[str, Any]]] = {}
    for key in sorted(keys):
        with store.get(ArtifactRef("make_masks", key)).open(MASKS) as file:
            table = read_parquet(file, columns=_COLUMNS)
        usable = pc.and_(pc.equal(table["reject_reason"], ""), pc.is_in(table["image_id"], wanted))
        for row in table.filter(usable).to_pylist():
            name = mask_id(row["image_id"], row["height"], row["width"], row["counts"])
            found.setdefault(row["image_id"], []).append({**row, "mask_id": name})
    return found
