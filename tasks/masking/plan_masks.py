"""The stage `plan_masks`: retrieved images without a mask, cut into parts.

Masks are class-agnostic, so an image is masked once, whichever vocabularies retrieve it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, digest
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore, damaged
from storage.errors.exceptions import ConfigError
from storage.errors.reject_reasons import SIXTEEN_BIT
from storage.images.records import read_parquet, write_parquet
from tasks.stage.contract import Progress
from tasks.stage.coverage import covered_items
from tasks.stage.layout import MASK_PLAN, MASKS, RETRIEVED_IMAGES

NAME = "plan_masks"
VERSION = 1
_COLUMNS = ["image_id", "uri", "offset", "length"]
_SMALLEST_PART = 128
_MOST_PARTS = 1_000


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the plan.

    Attributes:
        masks_prefix: key prefix of the `make_masks` recipe.
        part_images: images per part; 0 for 128, or a thousandth of the retrieved images if that
            is more.
        sixteen_bit: plan for the images of more than 8 bits per channel, or for all others.
    """

    masks_prefix: str
    part_images: int = 0
    sixteen_bit: bool = False

    def __post_init__(self) -> None:
        if self.part_images < 0:
            raise ConfigError(
                f"mask_part_images is {self.part_images}: give a positive number, or 0 to let "
                "the plan choose."
            )


@dataclass(frozen=True)
class Inputs:
    """The retrieval whose images are to be masked."""

    retrieval: ArtifactRef


def run(
    config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress
) -> Artifact | None:
    """Publish the images to be masked, sorted by image_id, with their parts; None without any.

    Parts are consecutive and of equal size, which does not depend on the images that are masked
    already, so that after a crash the rest is cut into the same parts again.

    Raises:
        ArtifactError: an artifact with masks is damaged.
    """
    with store.get(inputs.retrieval).open(RETRIEVED_IMAGES) as file:
        images = read_parquet(file, columns=[*_COLUMNS, "conversion"])
    deep = pc.equal(images["conversion"], SIXTEEN_BIT)
    images = images.filter(deep if config.sixteen_bit else pc.invert(deep)).select(_COLUMNS)
    done = covered_items(store, "make_masks", config.masks_prefix, file=MASKS, column="image_id")
    missing = images.filter(
        pc.invert(pc.is_in(images["image_id"], pa.array(list(done), pa.string())))
    )
    progress.advance(images.num_rows, masked_before=images.num_rows - missing.num_rows)
    if not missing.num_rows:
        return None
    size = config.part_images or max(_SMALLEST_PART, math.ceil(images.num_rows / _MOST_PARTS))
    part = np.arange(missing.num_rows, dtype=np.int32) // size
    ids = missing["image_id"].to_pylist()
    parts = [
        {"digest": digest(ids[start : start + size]), "items": len(ids[start : start + size])}
        for start in range(0, len(ids), size)
    ]
    recipe = Recipe(stage=NAME, version=VERSION, config={"masks_prefix": config.masks_prefix},
                    inputs={"retrieval": inputs.retrieval.key})  # fmt: skip
    ref = ArtifactRef(NAME, recipe.key({"images": digest(ids), "part_images": size}))
    if (planned := store.find(ref)) is not None:
        if problems := planned.problems():
            raise damaged(ref, problems)
        return planned
    with store.attempt(ref) as attempt:
        with attempt.create(MASK_PLAN) as file:
            write_parquet(missing.append_column("part", pa.array(part)), file)
        return store.publish(attempt, recipe, counts={"images": len(ids)}, notes={"parts": parts})
