"""The stage `embed_regions`: each mask's region as CLIP and SelfMask see it, and its shape.

Regions know no category: `score_labels` compares their vectors with texts, so that a new
vocabulary measures no region again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.embeddings.parts import to_float16_rows, write_embeddings
from storage.errors.exceptions import ImageRejected
from storage.images.decoding import decoded
from storage.images.masks import mask_pixels
from storage.images.memory_budget import hold_for_file
from storage.images.records import read_parquet, write_parquet
from tasks.indexing.source_images import read_source_image
from tasks.quality.region_measuring import (
    REGION_FIELDS,
    VECTORS,
    PreparedImage,
    Region,
    Sizes,
    measured,
    prepared,
    sizes_for,
)
from tasks.quality.source_masks import mask_rows
from tasks.stage.contract import PartOfPlan, Progress, plan_parts, waiting
from tasks.stage.layout import REGION_PLAN, REGION_VECTORS, REGIONS
from tasks.stage.models import ModelConfig, load_clip_model, load_selfmask_model
from tasks.workers.reading_ahead import in_order

NAME = "embed_regions"
VERSION = 2  # 2: objectness

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("mask_id", pa.string()),
        ("row", pa.int64()),
        ("objectness", pa.float32()),
        *REGION_FIELDS,
        ("reject_reason", pa.string()),
    ]
)
"""`row` is the region's first row in the vectors, -1 where it could not be measured; `objectness`
the score that the mask was proposed with, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the measurement.

    Attributes:
        clip: a CLIP with patch tokens; need not be the one of the index.
        selfmask: the network that made the masks.
        masks_prefix: key prefix of the recipe of the masks.
        batch_size: images per forward pass. On a CPU larger batches gain nothing, and with single
            images a region is independent of the rest of the batch.
        bit_depth: as for the masks.
        threads: threads that decode and crop. Not part of the key.
    """

    clip: ModelConfig
    selfmask: ModelConfig
    masks_prefix: str
    batch_size: int = 1
    bit_depth: int | None = None
    threads: int = os.cpu_count() or 1

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            stage=NAME,
            version=VERSION,
            config={
                "clip": self.clip.identity,
                "selfmask": self.selfmask.identity,
                "masks_prefix": self.masks_prefix,
                "batch_size": self.batch_size,
                **unless_default(self, "bit_depth"),
            },
            weights={
                "clip": self.clip.weights.digest,
                "selfmask": self.selfmask.weights.digest,
            },
        )


def locate(config: Config, inputs: PartOfPlan, store: ArtifactStore) -> ArtifactRef:
    part = plan_parts(store.get(inputs.plan))[inputs.part]
    return ArtifactRef(NAME, config.recipe.key_of_digest(part["digest"]))


def run(config: Config, inputs: PartOfPlan, store: ArtifactStore, progress: Progress) -> Artifact:
    """Measure the regions of one part of a plan.

    Raises:
        CorpusError: an image is missing or has changed since it was indexed.

    Publishes `regions.parquet` (`SCHEMA`), sorted by image_id and mask, and `vectors.npy`: float16
    [6 n, d], six rows for each of n regions (`region_measuring.VECTORS`).
    """
    plan = store.get(inputs.plan)
    images = _images_of_part(plan, inputs.part)
    masks = mask_rows(
        {image["masked"] for image in images}, {image["image_id"] for image in images}, store
    )
    with waiting(progress, "loading CLIP and SelfMask"):
        networks = load_clip_model(config.clip), load_selfmask_model(config.selfmask)
    rows: list[dict[str, Any]] = []
    # Of no region, so that there is a width where none can be measured; then six rows of each.
    vectors = [np.empty((0, networks[0].embedding_dim), dtype=np.float16)]
    sizes = sizes_for(networks[0].image_size[0])
    for image, found in _measured(images, masks, sizes, networks, config):
        own = masks[image["image_id"]]
        rows += _rows(image["image_id"], own, found, (len(vectors) - 1) * len(VECTORS))
        if not isinstance(found, str):
            vectors += [to_float16_rows(region.vectors) for region in found]
        progress.advance(1, rejected=found if isinstance(found, str) else "")
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(REGIONS) as file:
            write_parquet(pa.Table.from_pylist(rows, SCHEMA), file)
        with attempt.create(REGION_VECTORS) as file:
            write_embeddings(np.concatenate(vectors), file)
        return store.publish(
            attempt,
            config.recipe,
            inputs={"plan": inputs.plan.key},
            counts={
                "images": len(images),
                "regions": sum(row["row"] >= 0 for row in rows),
                "unmeasured": sum(row["row"] < 0 for row in rows),
            },
            notes={"part": inputs.part, "clip": config.clip.weights.label},
        )


def _images_of_part(plan: Artifact, part: int) -> list[dict[str, Any]]:
    with plan.open(REGION_PLAN) as file:
        table = read_parquet(file)
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["part"], part)).to_pylist()
    return rows


_Found = list[Region] | str  # or the reason why there are none


def _measured(
    images: list[dict[str, Any]],
    masks: dict[str, list[dict[str, Any]]],
    sizes: Sizes,
    networks: tuple[Any, Any],
    config: Config,
) -> Iterator[tuple[dict[str, Any], _Found]]:
    """Each image with its regions, in order. Threads prepare images ahead of the networks."""
    with ThreadPoolExecutor(config.threads, thread_name_prefix="regions") as pool:
        try:
            futures = (
                (
                    pool.submit(_prepare, image, masks[image["image_id"]], sizes, config),
                    2 * len(masks[image["image_id"]]) * 3 * sizes.view**2,
                )
                for image in images
            )
            ahead = 2 * max(config.batch_size, config.threads)
            ready = zip(images, in_order(futures, ahead=ahead), strict=True)
            while batch := list(islice(ready, config.batch_size)):
                usable = [each for _, each in batch if not isinstance(each, str)]
                regions = iter(measured(usable, *networks) if usable else ())
                for image, each in batch:
                    yield image, each if isinstance(each, str) else next(regions)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare(
    image: dict[str, Any], masks: list[dict[str, Any]], sizes: Sizes, config: Config
) -> PreparedImage | str:
    with hold_for_file(image["length"]):
        data = read_source_image(image)
        try:
            with decoded(data, bit_depth=config.bit_depth or 0) as found:
                return prepared(found.image, [mask_pixels(mask) for mask in masks], sizes)
        except ImageRejected as rejected:
            return rejected.reason


def _rows(
    image_id: str, masks: list[dict[str, Any]], found: _Found, first: int
) -> list[dict[str, Any]]:
    """The rows of an image's regions, whose vectors begin at row `first`."""
    rows = [
        {"image_id": image_id, "mask_id": mask["mask_id"], "objectness": mask["objectness"]}
        for mask in masks
    ]
    if isinstance(found, str):
        return [row | {"row": -1, "reject_reason": found} for row in rows]
    return [
        row | region.facts | {"row": first + number * len(VECTORS), "reject_reason": ""}
        for number, (row, region) in enumerate(zip(rows, found, strict=True))
    ]
