"""The labels of a build as they are before anybody decides: by image, category and mask."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.records import read_parquet
from tasks.quality.source_masks import mask_rows
from tasks.stage.layout import NAMED_OBJECTS, RETRIEVAL


@dataclass(frozen=True)
class BuildLabel:
    """A label.

    Attributes:
        image_id: of its image; mask_id: of its mask.
        category_id, category: number and name.
        height, width: of the mask, pixels.
    """

    image_id: str
    mask_id: str
    category_id: int
    category: str
    height: int
    width: int


def labels_of_images(
    image_ids: Collection[str],
    retrieval: ArtifactRef,
    masks: Sequence[ArtifactRef],
    named: ArtifactRef | None,
    store: ArtifactStore,
) -> Iterator[BuildLabel]:
    """The labels of some images, sorted by image_id, category_id and mask_id.

    Args:
        image_ids: of the images.
        retrieval, masks: of the build; named: of `name_objects`, with several objects an image.
    """
    found = mask_rows({ref.key for ref in masks}, image_ids, store)
    by_mask = {(row["image_id"], row["mask_id"]): row for rows in found.values() for row in rows}
    if named:
        rows = _named(named, image_ids, store)
    else:
        rows = [
            row | {"mask_id": mask["mask_id"]}
            for row in _retrieved(retrieval, image_ids, store)
            for mask in found.get(row["image_id"], ())
        ]
    rows.sort(key=lambda row: (row["image_id"], row["category_id"], row["mask_id"]))
    for row in rows:
        if mask := by_mask.get((row["image_id"], row["mask_id"])):
            yield BuildLabel(**row, height=mask["height"], width=mask["width"])


def _retrieved(
    retrieval: ArtifactRef, image_ids: Collection[str], store: ArtifactStore
) -> list[dict[str, Any]]:
    with store.get(retrieval).open(RETRIEVAL) as file:
        table = read_parquet(file, columns=["image_id", "category_id", "category", "kept"])
    table = _of_images(table.filter(table["kept"]), image_ids)
    rows: list[dict[str, Any]] = table.drop_columns(["kept"]).to_pylist()
    return rows


def _named(
    named: ArtifactRef, image_ids: Collection[str], store: ArtifactStore
) -> list[dict[str, Any]]:
    columns = ["image_id", "mask_id", "category_id", "category", "reason"]
    with store.get(named).open(NAMED_OBJECTS) as file:
        table = read_parquet(file, columns=columns)
    table = _of_images(table.filter(pc.equal(table["reason"], "")), image_ids)
    rows: list[dict[str, Any]] = table.drop_columns(["reason"]).to_pylist()
    return rows


def _of_images(table: pa.Table, image_ids: Collection[str]) -> pa.Table:
    return table.filter(pc.is_in(table["image_id"], pa.array(sorted(image_ids), pa.string())))
