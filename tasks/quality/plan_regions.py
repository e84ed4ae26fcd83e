"""The stage `plan_regions`: images whose masks' regions are not measured yet, cut into parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import read_parquet
from tasks.stage.contract import Progress
from tasks.stage.coverage import covered_items
from tasks.stage.layout import MASKS, REGION_PLAN, REGIONS, RETRIEVED_IMAGES
from tasks.stage.planning import part_size, publish_plan, without

NAME = "plan_regions"
VERSION = 1
_COLUMNS = ["image_id", "uri", "offset", "length"]
_SMALLEST_PART = 256


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the plan.

    Attributes:
        regions_prefix: key prefix of the `embed_regions` recipe.
        part_images: images per part; 0 for 256, or a thousandth of the images if that is more.
    """

    regions_prefix: str
    part_images: int = 0


@dataclass(frozen=True)
class Inputs:
    """A retrieval, and the artifacts with masks of its images, all of one recipe."""

    retrieval: ArtifactRef
    masks: tuple[ArtifactRef, ...]


def run(
    config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress
) -> Artifact | None:
    """Publish `images.parquet`: the retrieved images with a usable mask whose regions are to be
    measured, sorted by image_id, each with its part and `masked`, the key of the artifact that has
    its masks. None where there are none.

    Raises:
        ArtifactError: an artifact with masks or regions is damaged.
    """
    with store.get(inputs.retrieval).open(RETRIEVED_IMAGES) as file:
        images = read_parquet(file, columns=_COLUMNS)
    masked = _masked(inputs.masks, store)
    images = images.filter(pc.is_in(images["image_id"], pa.array(list(masked), pa.string())))
    prefix = config.regions_prefix
    done = covered_items(store, "embed_regions", prefix, file=REGIONS, column="image_id")
    missing = without(images, done)
    progress.advance(images.num_rows, measured_before=images.num_rows - missing.num_rows)
    if not missing.num_rows:
        return None
    recipe = Recipe(
        stage=NAME,
        version=VERSION,
        config={"regions_prefix": prefix},
        inputs={
            "retrieval": inputs.retrieval.key,
            "masks": sorted(ref.key for ref in inputs.masks),
        },
    )
    owners = [masked[image_id] for image_id in missing["image_id"].to_pylist()]
    planned = missing.append_column("masked", pa.array(owners, pa.string()))
    size = part_size(config.part_images, _SMALLEST_PART, images.num_rows)
    return publish_plan(planned, size, recipe, REGION_PLAN, store)


def _masked(refs: Sequence[ArtifactRef], store: ArtifactStore) -> dict[str, str]:
    """The artifact with the usable masks, by image_id."""
    owners: dict[str, str] = {}
    for ref in sorted(refs, key=str):
        with store.get(ref).open(MASKS) as file:
            table = read_parquet(file, columns=["image_id", "reject_reason"])
        usable = table.filter(pc.equal(table["reject_reason"], ""))
        for image_id in usable["image_id"].to_pylist():
            owners.setdefault(image_id, ref.key)
    return owners
