"""The stage `plan_regions`: images whose masks' regions are not measured yet, cut into parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, digest
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore, damaged
from storage.images.records import read_parquet, write_parquet
from tasks.stage.contract import Progress
from tasks.stage.coverage import covered_items
from tasks.stage.layout import MASKS, REGION_PLAN, REGIONS, RETRIEVED_IMAGES

NAME = "plan_regions"
VERSION = 1
_COLUMNS = ["image_id", "uri", "offset", "length"]
_SMALLEST_PART = 256
_MOST_PARTS = 1_000


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
    known = pa.array(list(done), pa.string())
    missing = images.filter(pc.invert(pc.is_in(images["image_id"], known)))
    progress.advance(images.num_rows, measured_before=images.num_rows - missing.num_rows)
    if not missing.num_rows:
        return None
    size = config.part_images or max(_SMALLEST_PART, math.ceil(images.num_rows / _MOST_PARTS))
    ids = missing["image_id"].to_pylist()
    parts = [
        {"digest": digest(ids[start : start + size]), "items": len(ids[start : start + size])}
        for start in range(0, len(ids), size)
    ]
    recipe = Recipe(
        stage=NAME,
        version=VERSION,
        config={"regions_prefix": prefix},
        inputs={
            "retrieval": inputs.retrieval.key,
            "masks": sorted(ref.key for ref in inputs.masks),
        },
    )
    ref = ArtifactRef(NAME, recipe.key({"images": digest(ids), "part_images": size}))
    if (planned := store.find(ref)) is not None:
        if problems := planned.problems():
            raise damaged(ref, problems)
        return planned
    owners = pa.array([masked[image_id] for image_id in ids], pa.string())
    part = pa.array(np.arange(len(ids), dtype=np.int32) // size)
    with store.attempt(ref) as attempt:
        with attempt.create(REGION_PLAN) as file:
            planned_table = missing.append_column("masked", owners).append_column("part", part)
            write_parquet(planned_table, file)
        return store.publish(attempt, recipe, counts={"images": len(ids)}, notes={"parts": parts})


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
