"""Masks of images as pixels, from the artifacts that hold them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.mask_ids import mask_id
from storage.images.records import read_parquet
from tasks.quality.region_measuring import Sizes
from tasks.stage.layout import MASKS

SECOND_LOOK = 160
"""Side of SelfMask's second look, pixels. Its time grows with the square of the area: at 160 it
costs a twentieth of a look at 512."""


def sizes_for(clip_size: int) -> Sizes:
    """What the networks see, for a CLIP of that input size."""
    return Sizes(view=clip_size, dense=clip_size, second_look=SECOND_LOOK)


def mask_rows(keys: Collection[str], store: ArtifactStore) -> dict[str, list[dict[str, str | int]]]:
    """The usable masks of each image, by image_id, in the order of their artifacts.

    Args:
        keys: of artifacts of `make_masks`.

    Returns:
        Rows of image_id, height, width, counts, reject_reason and mask_id.
    """
    found: dict[str, list[dict[str, str | int]]] = {}
    for key in sorted(keys):
        with store.get(ArtifactRef("make_masks", key)).open(MASKS) as file:
            columns = ["image_id", "height", "width", "counts", "reject_reason"]
            table = read_parquet(file, columns=columns)
        for row in table.filter(pc.equal(table["reject_reason"], "")).to_pylist():
            name = mask_id(row["image_id"], row["height"], row["width"], row["counts"])
            found.setdefault(row["image_id"], []).append({**row, "mask_id": name})
    return found


def masks_of_images(
    image_ids: Collection[str], refs: Sequence[ArtifactRef], store: ArtifactStore
) -> dict[str, dict[str, npt.NDArray[np.bool_]]]:
    """Masks bool [h, w] by mask_id, by image_id."""
    rows = mask_rows({ref.key for ref in refs}, store)
    return {
        image_id: {str(row["mask_id"]): decoded_mask(row) for row in rows[image_id]}
        for image_id in image_ids
    }


def decoded_mask(row: dict[str, str | int]) -> npt.NDArray[np.bool_]:
    """The mask of a row with height, width and counts, bool [h, w]."""
    from pycocotools.mask import decode

    size, counts = [row["height"], row["width"]], str(row["counts"]).encode("ascii")
    pixels: npt.NDArray[np.uint8] = decode({"size": size, "counts": counts})
    return pixels.view(np.bool_)
