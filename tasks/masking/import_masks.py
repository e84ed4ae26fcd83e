"""The stage `import_masks`: masks that a user has, in place of SelfMask's.

It takes the parts of the plan that `make_masks` would take, and its artifacts are of that stage, so
that all that follows reads them as any masks. Masks are class-agnostic: whatever a file calls them,
retrieval names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
from pycocotools import mask as coco_mask

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.decisions.decision import DrawnMask
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display
from storage.given_masks.source import AmbiguousNames, GivenMasks, open_given_masks
from storage.images.records import read_parquet
from tasks.masking.mask_table import (
    AMBIGUOUS_NAME,
    BAD_MASK,
    BLANK_MASK,
    FULL_MASK,
    MOST_OBJECTS,
    NO_GIVEN_MASK,
    OTHER_SIZE,
    STAGE,
    mask_row,
    publish_masks,
)
from tasks.stage.contract import PartOfPlan, Progress, plan_parts
from tasks.stage.layout import MASK_PLAN, RETRIEVED_IMAGES

NAME = "import_masks"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The masks.

    Attributes:
        masks: file or folder, as the user wrote it; not part of the key.
        digest: of it, `GivenMasks.digest`.
        recipe: of the masks, with the digest in place of a network's.
        objects: whether an image has one mask, the largest, or all.
    """

    masks: str
    digest: str
    recipe: Recipe
    objects: Literal["one", "many"] = "one"


def locate(config: Config, inputs: PartOfPlan, store: ArtifactStore) -> ArtifactRef:
    part = plan_parts(store.get(inputs.plan))[inputs.part]
    return ArtifactRef(STAGE, config.recipe.key_of_digest(part["digest"]))


def run(config: Config, inputs: PartOfPlan, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `masks.parquet` of one part of a plan, as `make_masks` does. Images whose mask is not
    given, is of another size, or can't be read, have a row with the reason.

    Raises:
        CorpusError: the masks have changed since the run began, or can't be read.
    """
    given = open_given_masks(config.masks)
    if given.digest != config.digest:
        raise CorpusError(
            f"{display(config.masks)} has changed since this run began: run the same command again."
        )
    plan = store.get(inputs.plan)
    rows: list[dict[str, Any]] = []
    images = _images_of_part(plan, inputs.part, store)
    for image in images:
        of_image = _rows_of_image(image, given, several=config.objects == "many")
        rows += of_image
        progress.advance(1, rejected=of_image[0]["reject_reason"])
    return publish_masks(
        locate(config, inputs, store), config.recipe, inputs, rows,
        images=len(images), objects=config.objects, notes={"masks": config.masks}, store=store,
    )  # fmt: skip


def _images_of_part(plan: Artifact, part: int, store: ArtifactStore) -> list[dict[str, Any]]:
    """The part's images with their names and sizes, sorted by image_id."""
    with plan.open(MASK_PLAN) as file:
        table = read_parquet(file, columns=["image_id", "part"])
    wanted = table.filter(pc.equal(table["part"], part))["image_id"]
    retrieval = store.get(ArtifactRef("retrieve", plan.manifest["inputs"]["retrieval"]))
    with retrieval.open(RETRIEVED_IMAGES) as file:
        images = read_parquet(file, columns=["image_id", "uri", "member", "height", "width"])
    rows: list[dict[str, Any]] = images.filter(
        pc.is_in(images["image_id"], wanted.combine_chunks())
    ).to_pylist()
    return sorted(rows, key=lambda row: str(row["image_id"]))


def _rows_of_image(
    image: dict[str, Any], given: GivenMasks, *, several: bool
) -> list[dict[str, Any]]:
    rows = list(_rows(image, given, MOST_OBJECTS if several else 1))
    usable = [row for row in rows if not row["reject_reason"]]
    chosen = usable or rows[:1] or [_rejected(image, BLANK_MASK)]
    if not several:
        return chosen[:1]
    return [row | {"object": number, "part_of": -1} for number, row in enumerate(chosen)]


def _rows(image: dict[str, Any], given: GivenMasks, most: int) -> Iterator[dict[str, Any]]:
    try:
        entry = given.entry(image["image_id"], image["uri"], image["member"])
        masks: Sequence[DrawnMask] = () if entry is None else given.masks(entry)
    except AmbiguousNames:
        yield _rejected(image, AMBIGUOUS_NAME)
        return
    except (OSError, ValueError, SyntaxError):  # Pillow raises the last of damaged PNGs
        yield _rejected(image, BAD_MASK)
        return
    if entry is None:
        yield _rejected(image, NO_GIVEN_MASK)
    for mask in masks[:most]:
        yield _row_of_mask(image, mask)


def _row_of_mask(image: dict[str, Any], mask: DrawnMask) -> dict[str, Any]:
    from zutis_model.refinement.mask_statistics import mask_statistics

    size = {"height": mask.height, "width": mask.width}
    if size != {name: image[name] for name in size}:
        return _rejected(image, OTHER_SIZE)
    run_lengths: Any = {"size": [mask.height, mask.width], "counts": mask.counts}
    pixels = np.asarray(coco_mask.decode(run_lengths), dtype=np.bool_)
    if pixels.all():
        return _rejected(image, FULL_MASK)
    statistics = mask_statistics(pixels, pixels)
    return mask_row(
        image["image_id"],
        **size,
        counts=mask.counts,
        objectness=1.0,
        area=float(pixels.mean()),
        border_contact=statistics.border_contact,
        components=statistics.components,
        refiner_agreement=1.0,
    )


def _rejected(image: dict[str, Any], reason: str) -> dict[str, Any]:
    known = {name: image[name] for name in ("image_id", "height", "width")}
    return mask_row(**known, reject_reason=reason)
