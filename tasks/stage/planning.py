"""Plans of images: what is still to be done, cut into parts that later stages take one by one."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, digest
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore, damaged
from storage.images.records import write_parquet

_MOST_PARTS = 1_000


def without(images: pa.Table, done: Collection[str]) -> pa.Table:
    """The rows whose image_id is not among those that are done."""
    known = pa.array(list(done), pa.string())
    return images.filter(pc.invert(pc.is_in(images["image_id"], known)))


def part_size(wanted: int, smallest: int, images: int) -> int:
    """Images a part: as many as are wanted; for 0 the smallest number, or a thousandth of all
    images if that is more."""
    return wanted or max(smallest, math.ceil(images / _MOST_PARTS))


def publish_plan(
    images: pa.Table, part_images: int, recipe: Recipe, file: str, store: ArtifactStore
) -> Artifact:
    """Publish images with their parts, or find the plan as it was published before.

    Parts are consecutive and of equal size. The size must not depend on the images that are done
    already, so that after a crash the rest is cut into the same parts again.

    Args:
        images: at least one, with their image_id, in order.
        part_images: images a part.
        recipe: of the plan.
        file: its name in the artifact; it has the images' columns, and `part`.

    Raises:
        ArtifactError: the plan that was published is damaged.
    """
    ids = images["image_id"].to_pylist()
    ref = ArtifactRef(recipe.stage, recipe.key({"images": digest(ids), "part_images": part_images}))
    if (planned := store.find(ref)) is not None:
        if problems := planned.problems():
            raise damaged(ref, problems)
        return planned
    part = np.arange(len(ids), dtype=np.int32) // part_images
    cuts = [ids[start : start + part_images] for start in range(0, len(ids), part_images)]
    parts = [{"digest": digest(cut), "items": len(cut)} for cut in cuts]
    with store.attempt(ref) as attempt:
        with attempt.create(file) as created:
            write_parquet(images.append_column("part", pa.array(part)), created)
        return store.publish(attempt, recipe, counts={"images": len(ids)}, notes={"parts": parts})
