"""The stage `plan_masks`: retrieved images without a mask, cut into parts.

Masks are class-agnostic, so an image is masked once, whichever vocabularies retrieve it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.errors.reject_reasons import SIXTEEN_BIT
from storage.images.records import read_parquet
from tasks.stage.contract import Progress
from tasks.stage.coverage import covered_items
from tasks.stage.layout import MASK_PLAN, MASKS, RETRIEVED_IMAGES
from tasks.stage.planning import part_size, publish_plan, without

NAME = "plan_masks"
VERSION = 1
_COLUMNS = ["image_id", "uri", "offset", "length"]
_SMALLEST_PART = 128


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

    Raises:
        ArtifactError: an artifact with masks is damaged.
    """
    with store.get(inputs.retrieval).open(RETRIEVED_IMAGES) as file:
        images = read_parquet(file, columns=[*_COLUMNS, "conversion"])
    deep = pc.equal(images["conversion"], SIXTEEN_BIT)
    images = images.filter(deep if config.sixteen_bit else pc.invert(deep)).select(_COLUMNS)
    done = covered_items(store, "make_masks", config.masks_prefix, file=MASKS, column="image_id")
    missing = without(images, done)
    progress.advance(images.num_rows, masked_before=images.num_rows - missing.num_rows)
    if not missing.num_rows:
        return None
    recipe = Recipe(stage=NAME, version=VERSION, config={"masks_prefix": config.masks_prefix},
                    inputs={"retrieval": inputs.retrieval.key})  # fmt: skip
    size = part_size(config.part_images, _SMALLEST_PART, images.num_rows)
    return publish_plan(missing, size, recipe, MASK_PLAN, store)
